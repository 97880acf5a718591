'use strict';
// A process that was started before there is a function for it waits here, and then becomes one that was started for that
// function: same variables, time zone, directory.

const fs = require('fs');
const context = require('./context.cjs');
const frames = require('./frames.cjs');
const logs = require('./logs.cjs');

const PARK = '_BERTH_PARK';
const CALLS = 20;
const LOADS = 8;
const { env } = process;

/**
 * Goes the way to a first event some times while nobody waits: setting up the loader of ES modules takes a first function 10 ms, and
 * what V8 has not seen or learned yet another half.
 */
async function rehearse() {
  const { load } = require('./loader.cjs');
  const files = ['./rehearsal.js', './rehearsal-module.mjs'].map((name) => require.resolve(name));
  for (let i = 0; i < LOADS; i++) {
    env[PARK] = 'x';
    delete env[PARK];
    logs.patchConsole();
    process.chdir(process.cwd());
    for (const name of ['rehearsal-module', 'rehearsal']) {
      const handler = await load(__dirname, name + '.handler');
      await handler(JSON.parse('{"a":[1,"x",null]}'));
    }
    for (const file of files) delete require.cache[file];
  }
  await import('./rehearsal-module.mjs?again'); // for modules that cannot be loaded at once
  require('util').format('%s', new Date(0).toISOString());
}

/**
 * Runs events through all that a call runs, up to the descriptors. On many processes' first calls V8 would spend ten times what a call
 * takes later; each reads its event from a file that is like what Berth sends.
 */
async function rehearseCalls(Runtime) {
  const nowhere = fs.openSync('/dev/null', 'w');
  let left = CALLS;
  let finish;
  class Rehearsal extends Runtime {
    schedule() {
      if (left-- === 0) return finish();
      const event = fs.openSync(__dirname + '/rehearsal.frame');
      frames.redirect(event, nowhere);
      setImmediate(() => {
        this.next();
        fs.closeSync(event);
      });
    }
  }
  context.readEnvironment();
  await new Promise((resolve) => {
    finish = resolve;
    new Rehearsal(require('./rehearsal.js').handler).schedule();
  });
  frames.redirect(3, 4);
  fs.closeSync(nowhere);
  context.forget();
  logs.forget();
}

async function wait(Runtime) {
  delete env[PARK];
  await rehearseCalls(Runtime);
  await rehearse();
  const home = env.HOME;
  for (const change of frames.park()) {
    const at = change.indexOf('=');
    if (at > 0) env[change.slice(0, at)] = change.slice(at + 1); // TZ takes effect by this
    else if (change) delete env[change];
  }
  if (env.HOME !== home) require('module')._initPaths(); // Node looks for modules there, too, and saw where when it started
}

/** Waits for the function's files. */
function enter() {
  frames.awaitGo();
  process.chdir(env.LAMBDA_TASK_ROOT || '/var/task'); // the directory of before lies under the function's code
}

module.exports = { wanted: () => env[PARK] !== undefined, wait, enter };
