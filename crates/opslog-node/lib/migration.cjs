"use strict";
// The option `migrate`, which the store's thread calls with the text of one document after the other.

const { invalid } = require("./errors.cjs");

/** The caller's function over JSON text, and what it threw: an empty text says that it did. */
function migrating(migrate) {
  if (migrate === undefined) return undefined;
  const migration = {
    thrown: null,
    migrate(document, from) {
      try {
        const migrated = migrate(JSON.parse(document), from);
        if (typeof migrated?.then === "function") throw asyncMigration(migrated);
        return JSON.stringify(migrated) ?? "null";
      } catch (error) {
        migration.thrown = { error };
        return "";
      }
    },
  };
  return migration;
}

function asyncMigration(promise) {
  // What it does later is none of the open's.
  Promise.resolve(promise).catch(() => {});
  return invalid("the option migrate must not be an async function: a promise is no document, so nothing was written");
}

module.exports = { migrating };
