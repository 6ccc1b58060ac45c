import { execFileSync } from 'node:child_process';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../../../gateway/cli/config.ts';
import { startGateway } from '../../../gateway/cli/gateway.ts';
import { hasProgram } from '../../support/has-program.ts';

const skip = hasProgram('openssl') ? undefined : 'openssl is not installed';
let folder: string;
const at = (name: string) => join(folder, name);

/** A certificate that vouches for itself. */
function make(name: string, commonName = name): void {
  const subject = ['-subj', `/CN=${commonName}`, '-addext', 'subjectAltName=IP:127.0.0.1'];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const files = ['-keyout', at(`${name}.key`), '-out', at(`${name}.crt`)];
  execFileSync('openssl', ['req', '-x509', ...key, ...subject, ...files], { stdio: 'ignore' });
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'snapgate-tls-'));
  if (skip === undefined) for (const name of ['first', 'second', 'client', 'other']) make(name);
  if (skip === undefined) make('impostor', 'client');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function start(listen: object, more: object = {}) {
  for (const kind of ['crt', 'key']) await copyFile(at(`first.${kind}`), at(`tls.${kind}`));
  const tls = { certificate: 'tls.crt', key: 'tls.key', ...listen };
  const config = {
    ...{ listen: { port: 0, tls }, data: 'data', stopTimeoutSeconds: 0 },
    ...{ upstream: { url: 'http://127.0.0.1:1' }, ...more },
  };
  const lines: string[] = [];
  const log = (_level: string, message: string) => void lines.push(message);
  const path = join(folder, 'c.yaml');
  return { lines, gateway: await startGateway(parseConfig(JSON.stringify(config), path), log) };
}

/** The name in the certificate that is shown, or the code of what went wrong. */
function shown(url: string, own: object = {}, path = '/healthz'): Promise<string> {
  return new Promise((resolve) => {
    const options = { rejectUnauthorized: false, agent: false as const, ...own };
    const asked = request(url + path, options, (answer) => {
      if (answer.statusCode !== 200) return void resolve(`status ${answer.resume().statusCode}`);
      const { socket } = answer as unknown as { socket: import('node:tls').TLSSocket };
      const name = socket.getPeerCertificate().subject.CN;
      answer.resume().on('end', () => resolve(String(name)));
    });
    asked.on('error', (error: NodeJS.ErrnoException) => resolve(`error ${error.code}`));
    asked.end();
  });
}

describe('TLS', () => {
  it('takes up a new certificate, and none that does not fit its key', async (ctx) => {
    ctx.skip(skip !== undefined, skip);
    const { gateway, lines } = await start({});
    const until = async (message: string) => {
      while (!lines.includes(message)) await new Promise((resolve) => setTimeout(resolve, 50));
    };
    expect(await shown(gateway.url)).toBe('first');
    await copyFile(at('second.crt'), at('tls.crt'));
    await until('certificate not reloaded');
    expect(await shown(gateway.url)).toBe('first');
    await copyFile(at('second.key'), at('tls.key'));
    await until('certificate reloaded');
    expect(await shown(gateway.url)).toBe('second');
    await gateway.close();
  });

  it('serves only clients with a certificate, where authorities are named', async (ctx) => {
    ctx.skip(skip !== undefined, skip);
    const { readFileSync } = await import('node:fs');
    const { gateway } = await start({ clientCa: 'client.crt' });
    const as = (name: string) =>
      shown(gateway.url, {
        cert: readFileSync(at(`${name}.crt`)),
        key: readFileSync(at(`${name}.key`)),
      });
    expect(await as('client')).toBe('first');
    expect(await as('other')).toMatch(/^error/);
    expect(await shown(gateway.url)).toMatch(/^error/);
    await gateway.close();
  });

  it('knows those who show a certificate of theirs, where that is optional', async (ctx) => {
    ctx.skip(skip !== undefined, skip);
    const { readFileSync } = await import('node:fs');
    const access = { rules: [], metrics: ['certificate:client'] };
    const { gateway } = await start(
      { clientCa: 'client.crt', clientCertificates: 'optional' },
      { access },
    );
    const pair = (name: string) => ({
      cert: readFileSync(at(`${name}.crt`)),
      key: readFileSync(at(`${name}.key`)),
    });
    const as = (own: object) => shown(gateway.url, own, '/metrics');
    expect(await as(pair('client'))).toBe('first');
    // Nobody vouches for these, whatever name they carry.
    expect(await as(pair('impostor'))).toBe('status 401');
    expect(await as({})).toBe('status 401');
    await gateway.close();
  });
});
