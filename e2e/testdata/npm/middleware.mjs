// A handler as users of @middy/core write it.
import middy from '@middy/core'

const tell = (phases) => ({
  before: (request) => { phases.push('before'); request.event.phases = phases },
  after: (request) => { phases.push('after'); request.response.phases = phases },
  onError: (request) => { request.response = { caught: request.error.message } },
})

export const handler = middy()
  .use({ before: (request) => { request.context.began = true } })
  .handler(async (event, context) => {
    if (event.fail) throw new Error('on purpose')
    return { name: event.name, began: context.began, function: context.functionName, left: context.getRemainingTimeInMillis() > 0 }
  })
  .use(tell([]))
