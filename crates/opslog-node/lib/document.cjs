"use strict";
// Documents between JavaScript values and JSON text.

const { invalid } = require("./errors.cjs");

function checkId(id) {
  if (typeof id !== "string") throw invalid(`a document's id must be a string, not ${describe(id)}`);
  if (id === "") throw invalid("a document's id must not be empty");
  if (!id.isWellFormed()) throw invalid("a document's id must be well-formed Unicode: this one has half of a surrogate pair");
}

/** The JSON text of a document, as it is at this moment. */
function encode(id, document) {
  let text;
  try {
    text = JSON.stringify(document);
  } catch (cause) {
    throw invalid(`document '${id}' cannot be written as JSON: ${cause.message}`, cause);
  }
  if (text === undefined || text[0] !== "{") throw invalid(`document '${id}' must be a JSON object, not ${describe(document)}`);
  // `JSON.stringify` writes a number that is not finite as `null`: only a text with a null needs the second look.
  if (text.includes("null") && hasNumberWithoutJson(document, new Set())) {
    throw invalid(`document '${id}' contains NaN or Infinity, which JSON cannot express`);
  }
  return text;
}

function hasNumberWithoutJson(value, above) {
  if (typeof value === "number") return !Number.isFinite(value);
  if (typeof value !== "object" || value === null || above.has(value)) return false;
  if (typeof value.toJSON === "function") return false;
  above.add(value);
  for (const key of Object.keys(value)) if (hasNumberWithoutJson(value[key], above)) return true;
  above.delete(value);
  return false;
}

function describe(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" ? "an object that becomes something else" : String(typeof value);
}

/** Makes a decoded document, and everything in it, unchangeable. */
function freeze(value) {
  if (Array.isArray(value)) for (let index = 0; index < value.length; index += 1) freezeMember(value[index]);
  else for (const key in value) freezeMember(value[key]);
  return Object.freeze(value);
}

function freezeMember(member) {
  if (typeof member === "object" && member !== null) freeze(member);
}

/** A write as the native half reads it: JSON text has no raw control characters. What is accepted already says when there was no document. */
function line(id, text, existed = true) {
  if (text === null) return `${JSON.stringify(id)}\n`;
  return `${existed ? "" : "+"}${JSON.stringify(id)}\t${text}\n`;
}

module.exports = { checkId, encode, freeze, line };
