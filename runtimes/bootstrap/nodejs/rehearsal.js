'use strict';
// What a waiting process runs in place of a function that is a CommonJS module (parking.cjs).
exports.handler = async (event) => event;
