// One HTTP request on a connection of its own; also a program for tests that ask from another network
// namespace: questions as a JSON list on stdin, answers as one on stdout.
import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

/** Resolves to the answer, or to the system error's code as `error`; never rejects. */
export function ask(question) {
  const { host = '127.0.0.1', port, method = 'GET', path = '/', headers = {}, body } = question;
  const timeout = question.limitMs ?? 30_000;
  return new Promise((resolve) => {
    const call = request({ host, port, method, path, headers, agent: false, timeout });
    call.on('error', (error) => resolve({ status: 0, headers: {}, body: '', error: error.code }));
    call.on('timeout', () => call.destroy(Object.assign(new Error(), { code: 'ETIMEDOUT' })));
    call.on('response', async (response) => {
      const { statusCode: status, headers } = response;
      resolve({ status, headers, body: await text(response).catch(() => '') });
    });
    call.end(body);
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const questions = JSON.parse(await text(process.stdin));
  console.log(JSON.stringify(await Promise.all(questions.map(ask))));
}
