// Reads an AsyncAPI document with the official parser, and holds the examples of its
// messages to their schemas, which the parser does not; says what is wrong.
//
//   node check.mjs DOCUMENT FOLDER     where FOLDER is where the parser is installed
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const [file, folder] = process.argv.slice(2);
const require = createRequire(join(resolve(folder), "package.json"));
const { Parser } = require("@asyncapi/parser");
const Ajv = require("ajv").default;
const addFormats = require("ajv-formats").default;

const wrong = [];
const { document, diagnostics } = await new Parser().parse(readFileSync(file, "utf8"));
// 0 is an error and 1 a warning; the rest is advice.
for (const { severity, code, message, path } of diagnostics) {
  if (severity <= 1) wrong.push(`${path.join(".")}: ${message} (${code})`);
}

const ajv = addFormats(new Ajv({ strict: false, allErrors: true }));
let examples = 0;
for (const message of document?.allMessages().all() ?? []) {
  const schemas = { payload: message.payload(), headers: message.headers() };
  for (const example of message.examples().all()) {
    for (const [part, schema] of Object.entries(schemas)) {
      examples += 1;
      if (!ajv.validate(schema.json(), example.json()[part])) {
        wrong.push(`the example of ${message.name()}: ${ajv.errorsText(ajv.errors, { dataVar: part })}`);
      }
    }
  }
}
if (document && examples === 0) wrong.push("no message has an example: mend the document, or this check");
for (const sentence of new Set(wrong)) console.error(`asyncapi: ${sentence}`);
process.exit(wrong.length === 0 ? 0 : 1);
