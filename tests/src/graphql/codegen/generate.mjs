// Makes a typed client of a schema and of the documents that ask for it. node generate.mjs SCHEMA DOCUMENTS
// DOCUMENTS is a list of trusted documents: a JSON object with each text by its hash.
import { readFileSync, writeFileSync } from 'node:fs';
import { codegen } from '@graphql-codegen/core';
import * as typescript from '@graphql-codegen/typescript';
import * as operations from '@graphql-codegen/typescript-operations';
import { buildSchema, parse } from 'graphql';

const [schemaFile, documentsFile] = process.argv.slice(2);
const sdl = readFileSync(schemaFile, 'utf8');
const texts = Object.values(JSON.parse(readFileSync(documentsFile, 'utf8')));
const text = 'string';
const scalars = { UUID: text, DateTime: text, Date: text, Sku: text, Currency: text, Position: text, Long: 'number' };
const make = async (filename, plugins) =>
  writeFileSync(
    filename,
    await codegen({
      filename,
      schema: parse(sdl),
      schemaAst: buildSchema(sdl),
      documents: texts.map((rawSDL, number) => ({ location: `${number}.graphql`, rawSDL, document: parse(rawSDL) })),
      plugins: plugins.map((name) => ({ [name]: {} })),
      pluginMap: { typescript, operations },
      // A scalar that is not told here is an error: a new one wants its type.
      config: { scalars, strictScalars: true, enumsAsTypes: true, useTypeImports: true },
    }),
  );
// Every type of the schema, and what the documents ask for and are answered.
await make('schema.ts', ['typescript']);
await make('documents.ts', ['operations']);
