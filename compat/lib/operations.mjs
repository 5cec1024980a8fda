// Operations as both stores can be asked to show them: with the previous document in full.

/** The document before an operation, given what its log line says. */
export function previousDocument(operation) {
  if (operation.prev === null || operation.encoding !== "delta") return operation.prev;
  const removed = new Set(operation.prev.$unset ?? []);
  const kept = Object.entries(operation.data).filter(([key]) => !removed.has(key));
  // `fromEntries` defines keys, so that "__proto__" stays an ordinary one.
  return Object.fromEntries([...kept, ...Object.entries(operation.prev.$set ?? {})]);
}

/** An operation with its reverse patch applied, and only the keys that mean the same to both stores. */
export function plainOperation(operation) {
  const plain = { ts: operation.ts, op: operation.op, id: operation.id, prev: previousDocument(operation) };
  if (operation.op === "set") plain.data = operation.data;
  if (operation.agent !== undefined) Object.assign(plain, { agent: operation.agent, clock: operation.clock });
  return plain;
}

/** Operations grouped by id, in the order in which the ids first occur: `[[id, [operation…]]…]`. */
export function historiesOf(operations) {
  const histories = new Map();
  for (const operation of operations) {
    if (!histories.has(operation.id)) histories.set(operation.id, []);
    histories.get(operation.id).push(operation);
  }
  return [...histories];
}
