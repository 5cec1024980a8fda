// The package in CommonJS.

import opslog = require("opslog");

const store: opslog.Store<{ n: number }> = new opslog.Store();
const n: number | undefined = store.get("a")?.n;
export = n;
