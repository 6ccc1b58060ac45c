import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasProgram } from './has-program.ts';

export const SOFTHSM_MODULE = '/usr/lib/softhsm/libsofthsm2.so';

/** Why there is no SoftHSM here, if so. */
export function softHsmMissing(): string | undefined {
  const isHere = existsSync(SOFTHSM_MODULE) && hasProgram('softhsm2-util');
  return isHere ? undefined : 'softhsm2 is not installed';
}

/** A token that was made; SOFTHSM2_CONF of this process names it until it is removed. */
export type TestToken = { remove(): Promise<void> };

/** Makes a token with a P-256 key and, when named, `other` on another curve. */
export async function makeToken(options: {
  readonly token: string;
  readonly key: string;
  readonly pin: string;
  readonly other?: string;
}): Promise<TestToken> {
  const { token, key, pin, other } = options;
  const before = process.env.SOFTHSM2_CONF;
  const folder = await mkdtemp(join(tmpdir(), 'snapgate-hsm-'));
  await mkdir(join(folder, 'tokens'));
  process.env.SOFTHSM2_CONF = join(folder, 'softhsm2.conf');
  const text = `directories.tokendir = ${folder}/tokens\nobjectstore.backend = file\n`;
  await writeFile(process.env.SOFTHSM2_CONF, text);
  const softhsm = (...args: string[]) =>
    execFileSync('softhsm2-util', args, { stdio: 'ignore', env: process.env });
  softhsm('--init-token', '--free', '--label', token, '--pin', pin, '--so-pin', '8765');
  const pairs = [[key, 'P-256', '01'], ...(other === undefined ? [] : [[other, 'P-384', '02']])];
  for (const [label = '', namedCurve = '', id = ''] of pairs) {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve });
    const file = join(folder, `${label}.pem`);
    await writeFile(file, privateKey.export({ type: 'pkcs8', format: 'pem' }));
    softhsm('--import', file, '--token', token, '--pin', pin, '--label', label, '--id', id);
  }
  const remove = async () => {
    if (before === undefined) delete process.env.SOFTHSM2_CONF;
    else process.env.SOFTHSM2_CONF = before;
    await rm(folder, { recursive: true, force: true });
  };
  return { remove };
}
