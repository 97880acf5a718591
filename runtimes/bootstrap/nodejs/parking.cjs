'use strict';
// A process that was started before there is a function for it waits here, and then becomes one that was started for that
// function: same variables, time zone, directory.

const PARK = '_BERTH_PARK';
const { env } = process;

/** Goes the way of a first call once, while nobody waits: setting up the loader of ES modules takes a first function 10 ms. */
async function rehearse() {
  const load = require('./loader.cjs').loadModule;
  for (const name of ['rehearsal-module', 'rehearsal']) {
    const { handler } = await load(__dirname, '', name);
    await handler(JSON.parse('{"a":[1,"x",null]}'));
  }
  delete require.cache[require.resolve('./rehearsal.js')];
  require('util').format('%s', new Date(0).toISOString());
}

async function wait() {
  delete env[PARK];
  await rehearse();
  const wanted = new Map(require('./frames.cjs').park().map((pair) => {
    const at = pair.indexOf('=');
    return [pair.slice(0, at), pair.slice(at + 1)];
  }));
  for (const name of Object.keys(env)) if (!wanted.has(name)) delete env[name];
  for (const [name, value] of wanted) if (env[name] !== value) env[name] = value; // TZ takes effect by this
  process.chdir(env.LAMBDA_TASK_ROOT || '/var/task'); // the directory of before lies under the function's code
}

module.exports = { wanted: () => env[PARK] !== undefined, wait };
