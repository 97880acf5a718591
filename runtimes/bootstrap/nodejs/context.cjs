'use strict';
// The context object.

const { env } = process;
const TRACE = '_X_AMZN_TRACE_ID';
let constant;
let lastTrace;

/** Reads what the environment says of the function. */
function readEnvironment() {
  constant = {
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
  };
}

function parse(text, name) {
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`Cannot parse ${name} as json: ${error.toString()}`);
  }
}

class InvokeContext {
  constructor(event) {
    this.event = event;
    if (event.traceId === lastTrace) return; // setting an environment variable is slow
    lastTrace = event.traceId;
    if (lastTrace) env[TRACE] = lastTrace;
    else delete env[TRACE];
  }

  /** The context, with the functions of handlers that do not stream. */
  build(succeed, fail, done) {
    const event = this.event;
    const { deadline } = event;
    const built = {
      callbackWaitsForEmptyEventLoop: true,
      succeed,
      fail,
      done,
      functionVersion: constant.functionVersion,
      functionName: constant.functionName,
      memoryLimitInMB: constant.memoryLimitInMB,
      logGroupName: constant.logGroupName,
      logStreamName: constant.logStreamName,
      clientContext: undefined,
      identity: undefined,
      invokedFunctionArn: event.arn,
      awsRequestId: event.requestId,
      tenantId: event.tenantId || undefined,
      getRemainingTimeInMillis: () => deadline - Date.now(),
    };
    // Not enumerable: who logs the context must not log a secret.
    if (event.tenantToken) Object.defineProperty(built, 'tenantToken', { value: event.tenantToken });
    return built;
  }

  /** The context of a handler that streams its response. */
  buildStreaming() {
    const built = this.build();
    delete built.succeed;
    delete built.fail;
    delete built.done;
    return built;
  }

  /** Fills in what may be malformed; it throws then, and the function is to answer with that error. */
  check(context) {
    context.clientContext = parse(this.event.clientContext, 'ClientContext');
    context.identity = parse(this.event.identity, 'CognitoIdentity');
    return context;
  }
}

/** Forgets the last event. */
function forget() {
  lastTrace = undefined;
  delete env[TRACE];
}

module.exports = { InvokeContext, readEnvironment, forget };
