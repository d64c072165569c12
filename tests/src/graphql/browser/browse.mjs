// Opens the page at /graphql in a headless Chromium, twice: where unpkg.com cannot be reached, and where it can. What it has
// is then taken from the packages that are installed here, for a test reaches no other host.
// Prints what came of the queries as JSON. node browse.mjs CHROMIUM URL TOKEN
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [executablePath, url, token] = process.argv.slice(2);
const catalogue = '{ products { nodes { sku inStock } } }';
const orders = '{ orders { totalCount } }';
const seen = { blocked: [], served: [], elsewhere: [], troubles: [] };

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
const open = async (serve) => {
  const page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(60_000);
  page.on('pageerror', (error) => seen.troubles.push(error.message));
  await page.route(
    (asked) => asked.origin !== new URL(url).origin,
    async (route) => {
      const asked = new URL(route.request().url());
      if (asked.host !== 'unpkg.com') {
        seen.elsewhere.push(asked.href);
        return route.abort();
      }
      if (!serve) {
        seen.blocked.push(asked.pathname);
        return route.abort();
      }
      const [, name, version, path] = asked.pathname.match(/^\/([^@]+)@([^/]+)\/(.+)$/);
      const installed = JSON.parse(readFileSync(join('node_modules', name, 'package.json'), 'utf8')).version;
      const file = join('node_modules', name, path);
      if (version !== installed || !existsSync(file)) return route.fulfill({ status: 404, body: 'there is no such file' });
      seen.served.push(asked.pathname);
      const contentType = path.endsWith('.css') ? 'text/css' : 'text/javascript';
      return route.fulfill({ path: file, contentType, headers: { 'Access-Control-Allow-Origin': '*' } });
    },
  );
  // With one operation in the editor the button runs it; with the several of the page it asks which.
  await page.addInitScript((query) => localStorage.setItem('graphiql:query', query), catalogue);
  await page.goto(url);
  return page;
};

// Without GraphiQL: a form.
const plain = await open(false);
const ask = async (query, shown) => {
  await plain.getByLabel('Query').fill(query);
  await plain.getByLabel('Token').fill(shown);
  const answered = plain.waitForResponse((response) => response.request().method() === 'POST');
  await plain.getByRole('button', { name: 'Run' }).click();
  const status = (await answered).status();
  await plain.waitForFunction(() => document.querySelector('output').value !== '');
  const answer = JSON.parse(await plain.locator('output').evaluate((output) => output.value));
  await plain.locator('output').evaluate((output) => { output.value = ''; });
  return { status, ...answer };
};
seen.plain = { catalogue: await ask(catalogue, ''), refused: await ask(orders, ''), orders: await ask(orders, token) };

// With it.
const full = await open(true);
await full.locator('.graphiql-container').waitFor();
const write = (editor, text) =>
  full.locator(`${editor} .CodeMirror`).first().evaluate((element, text) => element.CodeMirror.setValue(text), text);
const run = async (query) => {
  await write('.graphiql-query-editor', query);
  const isIt = (response) => response.request().postDataJSON()?.query === query;
  const answered = full.waitForResponse(isIt);
  await full.locator('.graphiql-execute-button').click();
  const answer = await (await answered).json();
  // What was answered is what is shown.
  await full.waitForFunction((answer) => {
    const shown = document.querySelector('.result-window .CodeMirror').CodeMirror.getValue();
    return shown.includes('}') && JSON.stringify(JSON.parse(shown)) === answer;
  }, JSON.stringify(answer));
  return answer;
};
seen.title = await full.title();
seen.graphiql = { catalogue: await run(catalogue), refused: await run(orders) };
await full.getByRole('button', { name: 'Headers' }).click();
await write('.graphiql-editor-tool .graphiql-editor:not(.hidden)', JSON.stringify({ Authorization: `Bearer ${token}` }));
seen.graphiql.orders = await run(orders);
await browser.close();
console.log(JSON.stringify(seen));
