// Holds every example of the document against the schema that it stands beside, and prints how many there were:
// node validate.mjs OPENAPI.json
import { readFileSync } from "node:fs";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

const document = JSON.parse(readFileSync(process.argv[2], "utf8"));
const ajv = new Ajv2020({ strict: false, allErrors: true });
addFormats.default(ajv);
for (const format of ["uint", "uint16", "uint32", "uint64"]) ajv.addFormat(format, { type: "number", validate: value => value >= 0 });
ajv.addSchema(document, "document");

const wrong = [], counts = { bodies: 0, answers: 0, problems: 0, events: 0 };
const hold = (what, path, value) => {
  const pointer = path.map(part => encodeURIComponent(part.replaceAll("~", "~0").replaceAll("/", "~1"))).join("/");
  const validate = ajv.compile({ $ref: `document#/${pointer}` });
  counts[what] += 1;
  if (!validate(value)) wrong.push({ path: path.join(" "), value, errors: validate.errors });
};
for (const [path, methods] of Object.entries(document.paths)) {
  for (const [method, operation] of Object.entries(methods)) {
    const at = ["paths", path, method];
    for (const [type, { example }] of Object.entries(operation.requestBody?.content ?? {})) {
      if (example === undefined) throw new Error(`${method} ${path} has no example`);
      hold("bodies", [...at, "requestBody", "content", type, "schema"], example);
    }
    for (const [status, answer] of Object.entries(operation.responses)) {
      for (const [type, { example, examples }] of Object.entries(answer.content ?? {})) {
        const schema = [...at, "responses", status, "content", type, "schema"];
        if (example !== undefined) hold("answers", schema, example);
        for (const { $ref } of Object.values(examples ?? {})) {
          const { value } = document.components.examples[$ref.split("/").at(-1)];
          if (value.status !== Number(status)) throw new Error(`${$ref} is not of ${status}`);
          hold("problems", schema, value);
        }
      }
    }
  }
}
// Events have theirs in their schemas.
for (const { get } of Object.values(document.paths)) {
  for (const { $ref } of get?.responses[200].content["application/json"].schema.properties.events?.items.oneOf ?? []) {
    const name = $ref.split("/").at(-1);
    hold("events", ["components", "schemas", name], document.components.schemas[name].examples[0]);
  }
}
console.log(JSON.stringify({ wrong, ...counts }));
