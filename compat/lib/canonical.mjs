// Documents are equal when they hold the same values under the same keys, in any order of keys: a
// reverse patch puts keys back at the end. The order of documents, on the other hand, is compared.

/** JSON text with the keys of every object sorted. */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value) ?? "null";
  const members = Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`);
  return `{${members.join(",")}}`;
}
