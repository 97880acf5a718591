// The handlers that run in the runtime interface client from npm.
export const handler = async (event, context) => {
  if (event.fail) throw new RangeError('on purpose')
  console.log('ran in the client from npm')
  return { event, name: context.functionName, id: context.awsRequestId, left: context.getRemainingTimeInMillis() > 0 }
}

export const stream = awslambda.streamifyResponse(async (event, out) => {
  out.write('one,')
  out.write('two')
  out.end()
})
