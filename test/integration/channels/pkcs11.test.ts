import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { initRepository } from '../../../gateway/tuf/edit.ts';
import { TufFolder } from '../../../gateway/tuf/folder.ts';
import { readState, signingOf } from '../../../gateway/tuf/state.ts';
import { publicKeyOf } from '../../../shared/signing/public-key.ts';
import { hasProgram } from '../../support/has-program.ts';
import { snapgate } from '../../support/run-program.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

const MODULE = '/usr/lib/softhsm/libsofthsm2.so';
const skip =
  existsSync(MODULE) && hasProgram('softhsm2-util') ? undefined : 'softhsm2 is not installed';

describe('snapgate tuf sign', () => {
  it('signs with a key that never leaves its token', async (ctx) => {
    ctx.skip(skip !== undefined, skip);
    const dir = await temporaryFolder(ctx);
    const env = { SOFTHSM2_CONF: join(dir, 'softhsm2.conf') };
    await mkdir(join(dir, 'tokens'));
    const text = `directories.tokendir = ${dir}/tokens\nobjectstore.backend = file\n`;
    await writeFile(env.SOFTHSM2_CONF, text);
    await writeFile(join(dir, 'pin'), '4321');
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    await writeFile(join(dir, 'key.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
    const softhsm = (...args: string[]) =>
      execFileSync('softhsm2-util', args, { stdio: 'ignore', env: { ...process.env, ...env } });
    const token = ['--label', 'channels', '--pin', '4321'];
    softhsm('--init-token', '--free', ...token, '--so-pin', '8765');
    const place = ['--token', 'channels', '--pin', '4321', '--label', 'root', '--id', '01'];
    softhsm('--import', join(dir, 'key.pem'), ...place);

    const folder = await TufFolder.create(join(dir, 'tuf'));
    const role = { keys: [publicKeyOf(privateKey)], threshold: 1 };
    const setup = { root: role, targets: role, snapshot: role, timestamp: role };
    await initRepository(folder, setup, { now: new Date() });
    const key = [
      ...['--pkcs11-module', MODULE, '--pkcs11-token', 'channels'],
      ...['--pkcs11-key', 'root', '--pkcs11-pin-file', join(dir, 'pin')],
    ];
    const { status, stderr } = await snapgate(['tuf', 'sign', folder.dir, ...key], { env });
    expect([status, stderr]).toEqual([0, '']);
    expect(signingOf(await readState(folder))).toMatchObject([
      { role: 'root', complete: true },
      { role: 'targets', complete: true },
    ]);
  });
});
