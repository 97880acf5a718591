'use strict';
// The stream that handlers of awslambda.streamifyResponse write to. Each write goes out at once.

const { Writable } = require('stream');
const { InvalidStreamingOperation } = require('./errors.cjs');

const HTTP_PRELUDE = 'application/vnd.awslambda.http-integration-response';

class ResponseStream extends Writable {
  #to;
  #begun = false;
  #ended = false;
  #abandoned = false;
  #started = false;

  /** to has begin(contentType), chunk(bytes) and end(). */
  constructor(to) {
    super({ decodeStrings: true });
    this.#to = to;
  }

  #begin() {
    if (this.#begun) return;
    this.#begun = true;
    this.#to.begin(this.contentType);
  }

  setContentType(type) {
    if (this.#started) throw new InvalidStreamingOperation('Cannot set content-type, too late.');
    this.contentType = type;
  }

  write(chunk, ...rest) {
    if (!this.#started) {
      this.#started = true;
      this._onBeforeFirstWrite?.((c) => super.write(c));
    }
    if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) chunk = JSON.stringify(chunk);
    return super.write(chunk, ...rest);
  }

  end(chunk, encoding, done) {
    if (typeof chunk === 'function') return super.end(chunk);
    if (typeof encoding === 'function') [encoding, done] = [undefined, encoding];
    if (chunk !== undefined && chunk !== null) this.write(chunk, encoding);
    return super.end(done);
  }

  _write(chunk, _encoding, done) {
    if (!this.#abandoned) {
      this.#begin();
      if (chunk.length > 0) this.#to.chunk(chunk);
    }
    done();
  }

  _final(done) {
    if (!this.#abandoned) {
      this.#ended = true;
      this.#begin();
      this.#to.end();
    }
    done();
  }

  /** Makes later writes lead to nothing; false if the answer went out before. */
  abandon() {
    this.#abandoned = true;
    return !this.#ended;
  }

  /** Waits for what a call of end set going; false if there was none. */
  async finished() {
    if (this.writableEnded && !this.#ended) await new Promise((resolve) => this.once('finish', resolve));
    return this.#ended;
  }
}

class HttpResponseStream {
  /** Lets the answer to an HTTP request begin with its status and headers: JSON, eight NUL bytes, then the body. */
  static from(stream, prelude) {
    stream.setContentType(HTTP_PRELUDE);
    stream._onBeforeFirstWrite = (write) => {
      write(JSON.stringify(prelude));
      write(new Uint8Array(8));
    };
    return stream;
  }
}

module.exports = { ResponseStream, HttpResponseStream };
