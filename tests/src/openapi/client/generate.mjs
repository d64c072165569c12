// Makes types of the OpenAPI document: node generate.mjs OPENAPI.json
import { readFileSync, writeFileSync } from "node:fs";
import openapiTS, { astToString } from "openapi-typescript";

const document = JSON.parse(readFileSync(process.argv[2], "utf8"));
writeFileSync("schema.d.ts", astToString(await openapiTS(document)));
