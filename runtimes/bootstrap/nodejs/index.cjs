'use strict';
// Berth's Node runtime: loads the handler, then answers events that arrive as frames. The frames are
// described in Berth's package runtimeapi (frames.go). What a function sees (context, texts of errors, log lines, when an
// invocation ends) is what AWS's own runtime shows it.
//
// Reading the next event blocks the whole process: between invocations a function is frozen anyway, so nothing of it may
// count on running then. Each event begins on a fresh turn of the event loop, so timers and sockets get theirs.

const errors = require('./errors.cjs');
const logs = require('./logs.cjs');
const frames = require('./frames.cjs');
const loader = require('./loader.cjs');
const context = require('./context.cjs');
const parking = require('./parking.cjs');

let failing; // what an error that nobody caught calls: (error, exit status)
let onEmptyLoop = nothing; // called when the event loop has run dry

function nothing() {}

/** Reports an error that nobody caught, and ends the process, as its state is unknown. */
function die(kind, exit) {
  return (error) => {
    logs.error(kind, error);
    failing(error);
    process.exit(exit);
  };
}

class Runtime {
  constructor(handler) {
    this.handler = handler;
    this.streams = loader.isStreaming(handler);
    this.again = () => this.next();
  }

  /** Takes the next event on a fresh turn of the event loop. The one before is answered. */
  schedule() {
    failing = nothing;
    setImmediate(this.again);
  }

  next() {
    const event = frames.receive();
    const invocation = new context.InvokeContext(event);
    logs.current(event.requestId, event.tenantId);
    onEmptyLoop = nothing;
    failing = (error) => frames.sendError(error, false);
    if (this.streams) this.runStreaming(event, invocation);
    else this.run(event, invocation);
  }

  /** Handlers that return a promise, or call back, or do neither: those are done, with null, when the loop runs dry. */
  run(event, invocation) {
    let finished = false; // only the first of callback, done, succeed and fail counts
    const once = (f) => (...args) => {
      if (finished) return;
      f(...args);
      finished = true;
    };
    let reported = false;
    const complete = (result) => {
      if (reported) {
        console.error('Invocation has already been reported as done. Cannot call complete more than once per invocation.');
        return;
      }
      frames.sendResult(result);
      reported = true;
      this.schedule();
    };
    const done = (error, result) => {
      onEmptyLoop = nothing;
      if (error === undefined || error === null) return complete(result);
      logs.error('Invoke Error', error);
      frames.sendError(error, true);
      this.schedule();
    };
    const callback = once((error, result) => {
      const waits = context.callbackWaitsForEmptyEventLoop;
      if ((error !== undefined && error !== null) || !waits) return done(error, result);
      onEmptyLoop = () => {
        onEmptyLoop = nothing;
        setImmediate(() => complete(result));
      };
    });
    const succeed = once((result) => done(null, result));
    const answer = (result) => {
      try {
        succeed(result);
      } catch (error) {
        fail(error); // it has no JSON
      }
    };
    const fail = once((error) => done(error === undefined || error === null ? 'handled' : error));
    const context = invocation.build(succeed, fail, once(done));
    onEmptyLoop = () => {
      onEmptyLoop = nothing;
      finished = true;
      complete(null);
    };
    try {
      const result = this.handler(JSON.parse(event.payload), invocation.check(context), callback);
      if (result && typeof result.then === 'function') result.then(answer, fail);
    } catch (error) {
      callback(error);
    }
  }

  /** Handlers of awslambda.streamifyResponse. What they write goes out as they write it. */
  runStreaming(event, invocation) {
    const { ResponseStream } = require('./stream.cjs');
    const context = invocation.buildStreaming();
    const stream = new ResponseStream({
      begin: frames.beginStream,
      chunk: frames.sendChunk,
      end() {
        failing = nothing;
        frames.finishStream();
      },
    });
    const next = () => {
      frames.sendNext();
      this.schedule();
    };
    const fail = (error) => {
      logs.error('Invoke Error', error);
      if (stream.abandon()) frames.sendError(error, true);
      else frames.sendNext();
      this.schedule();
    };
    let result;
    try {
      result = this.handler(JSON.parse(event.payload), stream, invocation.check(context));
    } catch (error) {
      return fail(error);
    }
    if (!result || typeof result.then !== 'function') return fail('Streaming does not support non-async handlers.');
    result
      .then((value) => {
        if (value !== undefined) console.warn('Streaming handlers ignore return values.');
        return stream.finished();
      })
      .then((ended) => {
        if (!ended) return fail('Response stream is not finished.');
        if (!context.callbackWaitsForEmptyEventLoop) return next();
        onEmptyLoop = () => {
          onEmptyLoop = nothing;
          setImmediate(next);
        };
      })
      .catch(fail);
  }
}

async function prepare() {
  const parked = parking.wanted();
  if (parked) await parking.wait(Runtime);
  logs.patchConsole();
  context.readEnvironment();
  failing = (error) => frames.sendInitError(error);
  process.on('uncaughtException', die('Uncaught Exception', 129));
  process.on('unhandledRejection', (reason, promise) =>
    die('Unhandled Promise Rejection', 128)(new errors.UnhandledPromiseRejection(reason, promise)));
  process.on('beforeExit', () => onEmptyLoop());
  if (!parked) return begin();
  parking.enter();
  process.nextTick(begin); // from here, after an await, the function's promises would go before what it puts off with nextTick
}

/** Loads the function and takes events. What it prints until then belongs to its init phase. */
async function begin() {
  let runtime;
  try {
    runtime = new Runtime(await loader.load(process.env.LAMBDA_TASK_ROOT || process.cwd(), process.env._HANDLER || ''));
  } catch (error) {
    die('Uncaught Exception', 129)(error);
  }
  frames.sendNext();
  runtime.schedule();
}

prepare();
