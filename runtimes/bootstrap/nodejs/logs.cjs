'use strict';
// console, in Lambda's line format or as JSON objects. Lines are written to descriptor 1 directly: process.stdout takes
// milliseconds to set up, and most functions never touch it.

const fs = require('fs');
const util = require('util');
const { format: formatError } = require('./errors.cjs');

const LEVELS = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];
let asJson = false;

// Where AWS's runtime keeps them, too: libraries read them there.
const REQUEST_ID = Symbol.for('aws.lambda.runtime.requestId');
const TENANT_ID = Symbol.for('aws.lambda.runtime.tenantId');

/** Sets the request that later lines belong to. */
function current(requestId, tenantId) {
  globalThis[REQUEST_ID] = requestId;
  globalThis[TENANT_ID] = tenantId || undefined;
}

/** Forgets the last request. */
function forget() {
  delete globalThis[REQUEST_ID];
  delete globalThis[TENANT_ID];
}

function writeLine(line) {
  const buf = Buffer.from(line + '\n');
  for (let sent = 0; sent < buf.length; ) {
    try {
      sent += fs.writeSync(1, buf, sent);
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error; // the pipe is full and does not block: wait for its reader
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

function textLine(level, args) {
  writeLine(`${new Date().toISOString()}\t${globalThis[REQUEST_ID]}\t${level}\t${util.format(...args)}`);
}

function errorFields(e) {
  return {
    errorType: e?.constructor?.name ?? 'UnknownError',
    errorMessage: e.message,
    stackTrace: typeof e.stack === 'string' ? e.stack.split('\n') : e.stack,
  };
}

function jsonLine(level, args) {
  const line = { timestamp: new Date().toISOString(), level, requestId: globalThis[REQUEST_ID] };
  if (globalThis[TENANT_ID] !== undefined) line.tenantId = globalThis[TENANT_ID];
  if (args.length === 1) {
    line.message = args[0];
    try {
      return writeLine(JSON.stringify(line, (_k, v) => (v instanceof Error ? { ...errorFields(v), ...v } : v)));
    } catch (_) {
      line.message = util.format(args[0]);
      return writeLine(JSON.stringify(line));
    }
  }
  line.message = util.format(...args);
  const error = args.find((a) => a instanceof Error);
  if (error) Object.assign(line, errorFields(error));
  writeLine(JSON.stringify(line));
}

/** Makes console.trace to console.fatal write such lines, those below AWS_LAMBDA_LOG_LEVEL none. */
function patchConsole() {
  asJson = (process.env.AWS_LAMBDA_LOG_FORMAT || '').toUpperCase() === 'JSON';
  const write = asJson ? jsonLine : textLine;
  const lowest = Math.max(0, LEVELS.indexOf((process.env.AWS_LAMBDA_LOG_LEVEL || '').toUpperCase()));
  LEVELS.forEach((level, i) => {
    const kept = i >= lowest || level === 'FATAL';
    console[level.toLowerCase()] = kept ? (...args) => write(level, args) : () => {};
  });
  console.log = console.info;
}

/** Logs what the runtime itself has to say about an error. */
function error(what, thrown) {
  const e = thrown instanceof Error ? thrown : new Error(thrown);
  if (asJson) console.error(e);
  else console.error(what, '\t' + formatError(e));
}

module.exports = { current, forget, patchConsole, error };
