import { once } from 'node:events';
import { openSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Json, Stage } from './stage.ts';

const SNAPGATE = fileURLToPath(new URL('../../gateway/main.ts', import.meta.url));

/** A signing key: an encrypted private key, the file that holds its password, and its public key. */
export type KeyPair = { readonly name: string; readonly key: string; readonly password: string };

/** `snapgate ARGS...` from this checkout. */
export function snapgate(...args: string[]): string[] {
  return [process.execPath, SNAPGATE, ...args];
}

/** Makes a key pair. */
export async function makeKey(stage: Stage, name: string): Promise<KeyPair & { pem: string }> {
  const password = stage.path(`${name}.password`);
  await writeFile(password, `password of ${name}\n`, { mode: 0o600 });
  const prefix = stage.path(name);
  await stage.run(snapgate('keys', 'generate', '--output', prefix, '--password-file', password));
  const pem = readFileSync(`${prefix}.pub`, 'utf8');
  return { name, key: `${prefix}.key`, password, pem };
}

/** Signs an image as its publisher would, with the image's own key. */
export function sign(stage: Stage, key: KeyPair, reference: string): Promise<unknown> {
  return stage.run(snapgate('sign', '--key', key.key, '--password-file', key.password, reference));
}

/** Starts the gateway in front of a registry. Answers with its `127.0.0.1:PORT`. */
export async function startGateway(stage: Stage, config: Json): Promise<string> {
  const file = stage.path('snapgate.yaml');
  await writeFile(file, JSON.stringify(config, null, 2));
  const log = stage.path('snapgate.log');
  const child = stage.start(snapgate('serve', '--config', file), {}, openSync(log, 'a'));
  const ended = once(child, 'exit').then(() => 'ended' as const);
  for (;;) {
    const line = logLines(log).find((entry) => entry.message === 'listening');
    if (typeof line?.url === 'string') return new URL(line.url).host;
    const tick = new Promise((resolve) => setTimeout(resolve, 50));
    stage.signal.throwIfAborted();
    if ((await Promise.race([ended, tick])) === 'ended') {
      throw new Error(`the gateway did not start:\n${readFileSync(log, 'utf8')}`);
    }
  }
}

/** What the gateway has logged so far. */
function logLines(file: string): Json[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .slice(0, -1)
    .flatMap((line) => {
      try {
        return [JSON.parse(line) as Json];
      } catch {
        return [];
      }
    });
}
