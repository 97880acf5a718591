'use strict';
// Finds the handler that _HANDLER names: DIR/FILE.EXPORT, where EXPORT may have dots and DIR slashes.

const fs = require('fs');
const path = require('path');
const { pathToFileURL } = require('url');
const errors = require('./errors.cjs');

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const RESPONSE = 'response';

function isModuleFolder(folder) {
  for (; !folder.endsWith('/node_modules'); folder = path.dirname(folder)) {
    const file = path.join(folder, 'package.json');
    if (fs.existsSync(file)) {
      try {
        return JSON.parse(fs.readFileSync(file))?.type === 'module';
      } catch (error) {
        console.warn(`${file} cannot be read, it will be ignored for ES module detection purposes.`, error);
        return false;
      }
    }
    if (folder === path.dirname(folder)) break;
  }
  return false;
}

// Node can load an ES module at once since 20.19 and 22.12 (which warns): import() goes to other threads and back for each file, a
// millisecond before the first event.
const [MAJOR, MINOR] = process.versions.node.split('.').map(Number);
const AT_ONCE = process.features.require_module && MAJOR !== 23 && !(MAJOR === 22 && MINOR < 13);

/** Loads an ES module. */
function loadESModule(file) {
  if (AT_ONCE) {
    try {
      return require(file);
    } catch (error) {
      if (error?.code !== 'ERR_REQUIRE_ASYNC_MODULE') throw error; // it awaits something at its top: nothing of it has run
    }
  }
  return import(pathToFileURL(file).href);
}

/** Loads the file as the first of what it can be: FILE, FILE.js, FILE.mjs, FILE.cjs, or a package's name. */
async function loadModule(root, folder, name) {
  const file = path.resolve(root, folder, name);
  if (fs.existsSync(file) && fs.statSync(file).isFile()) return require(file);
  if (fs.existsSync(file + '.js')) {
    return isModuleFolder(path.dirname(file)) ? loadESModule(file + '.js') : require(file + '.js');
  }
  if (fs.existsSync(file + '.mjs')) return loadESModule(file + '.mjs');
  if (fs.existsSync(file + '.cjs')) return require(file + '.cjs');
  return require(require.resolve(name, { paths: [root, path.join(root, folder)] }));
}

function addGlobals() {
  globalThis.awslambda = {
    streamifyResponse(handler) {
      handler[STREAMING] = RESPONSE;
      return handler;
    },
    get HttpResponseStream() {
      return require('./stream.cjs').HttpResponseStream;
    },
  };
}

async function load(root, handler) {
  if (handler.includes('..')) {
    throw new errors.MalformedHandlerName(
      `'${handler}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`);
  }
  const base = path.basename(handler);
  const parts = base.match(/^([^.]*)\.(.*)$/);
  if (!parts) throw new errors.MalformedHandlerName('Bad handler');
  addGlobals();
  let found;
  try {
    found = await loadModule(root, handler.substring(0, handler.indexOf(base)), parts[1]);
  } catch (error) {
    if (error instanceof SyntaxError) throw new errors.UserCodeSyntaxError(error);
    if (error?.code === 'MODULE_NOT_FOUND') throw new errors.ImportModuleError(error);
    throw error;
  }
  for (const key of parts[2].split('.')) found = found && found[key];
  if (!found) throw new errors.HandlerNotFound(`${handler} is undefined or not exported`);
  if (typeof found !== 'function') throw new errors.HandlerNotFound(`${handler} is not a function`);
  return found;
}

function isStreaming(handler) {
  const kind = handler[STREAMING];
  if (kind === undefined || kind === null || kind === false) return false;
  if (kind !== RESPONSE) throw new errors.MalformedStreamingHandler('Only response streaming is supported.');
  return true;
}

module.exports = { load, isStreaming };
