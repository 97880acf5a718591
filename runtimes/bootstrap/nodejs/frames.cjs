'use strict';
// Frames on descriptors 3 and 4: see frames.go in Berth's package runtimeapi.

const fs = require('fs');
const errors = require('./errors.cjs');

let IN = 3;
let OUT = 4;
let going = false; // the go frame has come
const HEADER = 5;
const MAX_TYPE = 255;
const MAX_CONTENT_TYPE = 256;
let input = Buffer.allocUnsafeSlow(64 << 10);
let output = Buffer.allocUnsafeSlow(16 << 10);

/** Fills buf[from, to) and returns how far it got; it may be further. */
function fill(buf, from, to) {
  while (from < to) {
    const n = fs.readSync(IN, buf, from, buf.length - from, null);
    if (n === 0) process.exit(0); // Berth is gone
    from += n;
  }
  return from;
}

/** Waits for one frame, and returns the buffer that it is in, its size, and how much of the buffer was read: only a go frame comes unasked. */
function receiveFrame() {
  let buf = input;
  const have = fill(buf, 0, 4);
  const size = 4 + buf.readUInt32LE(0);
  if (size > buf.length) {
    buf = Buffer.allocUnsafeSlow(size);
    input.copy(buf, 0, 0, have);
  }
  const got = fill(buf, have, size);
  return { buf, size, got };
}

/** Says that this process waits for its function, and returns how the function's environment differs: NAME=VALUE or NAME, … */
function park() {
  send('P', undefined, '');
  const { buf, size, got } = receiveFrame();
  going = got > size; // both frames came with one read
  return buf.utf8Slice(HEADER + 1, size).split('\0');
}

/** Waits until the function's files are there. */
function awaitGo() {
  if (!going) receiveFrame();
}

/** Waits for one event. */
function receive() {
  const { buf, size } = receiveFrame();
  const meta = HEADER + 4 + buf.readUInt32LE(HEADER);
  const part = buf.utf8Slice(HEADER + 4, meta).split('\0');
  return {
    deadline: +part[0],
    requestId: part[1],
    arn: part[2],
    traceId: part[3],
    clientContext: part[4],
    identity: part[5],
    tenantId: part[6],
    tenantToken: part[7],
    payload: buf.utf8Slice(meta, size),
  };
}

function write(buf, n) {
  for (let sent = 0; sent < n; ) sent += fs.writeSync(OUT, buf, sent, n - sent);
}

/** Sends a frame whose body is the bytes of type (with their length before them, if it is not undefined) and text. */
function send(kind, type, text) {
  const lead = type === undefined ? 0 : 1 + type.length;
  const most = HEADER + lead + 3 * text.length; // UTF-8 takes at most three bytes for each unit
  let buf = output;
  if (most > buf.length) buf = Buffer.allocUnsafeSlow(HEADER + lead + Buffer.byteLength(text));
  if (lead > 0) {
    buf[HEADER] = type.length;
    type.copy(buf, HEADER + 1);
  }
  const size = HEADER + lead + buf.utf8Write(text, HEADER + lead);
  buf.writeUInt32LE(size - 4, 0);
  buf[4] = kind.charCodeAt(0);
  write(buf, size);
}

/** Sends a frame whose body is bytes; a small one with one write. */
function sendBytes(kind, bytes) {
  const buf = output;
  const joined = HEADER + bytes.length <= buf.length;
  buf.writeUInt32LE(bytes.length + 1, 0);
  buf[4] = kind.charCodeAt(0);
  if (joined) buf.set(bytes, HEADER);
  write(buf, joined ? HEADER + bytes.length : HEADER);
  if (!joined) write(bytes, bytes.length);
}

function sendFailure(kind, error) {
  const described = errors.describe(error);
  const type = Buffer.from(String(described.errorType)).subarray(0, MAX_TYPE);
  send(kind, type, JSON.stringify(described));
}

function stringify(value) {
  let text;
  try {
    text = JSON.stringify(value === undefined ? null : value);
  } catch (_) {
    throw new Error('Unable to stringify response body');
  }
  return text === undefined ? 'null' : text; // functions and symbols have no JSON
}

module.exports = {
  /** Reads from and writes to other descriptors: for rehearsals. */
  redirect(from, to) {
    IN = from;
    OUT = to;
  },
  park,
  awaitGo,
  receive,
  sendNext: () => send('N', undefined, ''),
  /** Answers with the JSON of value, and asks for the next event. Throws, and sends nothing, if there is none. */
  sendResult: (value) => send('R', undefined, stringify(value)),
  /** Begins a response that comes in parts. */
  beginStream: (contentType) => sendBytes('B', Buffer.from(contentType === undefined ? '' : String(contentType)).subarray(0, MAX_CONTENT_TYPE)),
  /** Sends a part of it. Waits while its reader is slower than the function. */
  sendChunk: (bytes) => sendBytes('C', bytes),
  /** Ends it, and does not ask for the next event. */
  finishStream: () => send('f', undefined, ''),
  sendError: (error, next) => sendFailure(next ? 'E' : 'e', error),
  sendInitError: (error) => sendFailure('I', error),
};
