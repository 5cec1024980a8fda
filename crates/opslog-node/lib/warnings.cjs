"use strict";
// What is told to nobody's call: process warnings.

/** Damaged parts of logs that one warning tells of. */
const DAMAGE_TOLD = 5;

/** Says which parts of logs the store was opened without. */
function warnOfDamage(dir, parts) {
  if (parts.length === 0) return;
  const told = parts.slice(0, DAMAGE_TOLD).map(({ path, offset, bytes, reason }) => `${path} at byte ${offset}, ${bytes} bytes: ${reason}`);
  if (parts.length > told.length) told.push(`and ${parts.length - told.length} more`);
  process.emitWarning(`opslog: the store in ${dir} was opened without what could not be read; a writer keeps it beside the log, in a file that ends in .damaged, and the option strict refuses such a store\n${told.join("\n")}`);
}

/** Nobody could catch what `onError` throws itself. */
function tellWatcher(onError, error) {
  try {
    onError(error);
  } catch (thrown) {
    warn(thrown);
  }
}

/** A process warning; Node takes a text or an error for one, and anything may have been thrown. */
function warn(thrown) {
  process.emitWarning(thrown instanceof Error ? thrown : String(thrown));
}

module.exports = { tellWatcher, warn, warnOfDamage };
