import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../host-client/config.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';

const BASE = { gateways: ['https://gateway.test'], repository: 'os/server' };

async function machine(ctx: Parameters<typeof temporaryFolder>[0], text?: string) {
  const root = await temporaryFolder(ctx);
  await mkdir(join(root, 'etc/snaphost'), { recursive: true });
  if (text !== undefined) await writeFile(join(root, 'etc/snaphost/config.json'), text);
  return root;
}

describe('the configuration', () => {
  it('fills in what the file leaves out', async (ctx) => {
    const root = await machine(ctx, JSON.stringify(BASE));
    const config = await loadConfig({ root });
    expect(config).toMatchObject({
      ...{ tag: 'latest', name: 'gateway.test/os/server', keep: 1, root },
      policy: join(root, 'etc/snaphost/policy.json'),
      graphRoot: join(root, 'var/lib/containers/storage'),
      stateDir: join(root, 'var/lib/snaphost'),
      deploymentsDir: join(root, 'var/lib/snaphost/deployments'),
      limits: { windowLog: 26 },
      waits: { deltaSeconds: 900 },
    });
    expect(config.gateways.map((url) => url.host)).toEqual(['gateway.test']);
    expect(config.runRoot.length).toBeLessThanOrEqual(50);
  });

  it('reads where Podman stores from storage.conf', async (ctx) => {
    const root = await machine(ctx, JSON.stringify(BASE));
    await mkdir(join(root, 'etc/containers'));
    const conf =
      '[other]\ngraphroot = "/no"\n[storage]\ndriver = "btrfs"\ngraphroot="/srv/pods" # x\n';
    await writeFile(join(root, 'etc/containers/storage.conf'), conf);
    expect((await loadConfig({ root })).graphRoot).toBe(join(root, 'srv/pods'));
  });

  it('lets the command line win, and needs no file then', async (ctx) => {
    const root = await machine(ctx);
    const gateways = ['http://10.0.0.1:5000', 'http://10.0.0.2:5000'];
    const said = { gateways, repository: 'os/edge', tag: 'v2', graphRoot: '/pods', runRoot: '/r' };
    const config = await loadConfig({ root, ...said });
    expect(config).toMatchObject({ tag: 'v2', graphRoot: '/pods', name: '10.0.0.1:5000/os/edge' });
    expect(config.gateways).toHaveLength(2);
  });

  it.for([
    ['{', /not JSON/],
    ['[]', /not JSON: not an object/],
    [JSON.stringify({ repository: 'os' }), /gateways: is missing/],
    [JSON.stringify({ ...BASE, gateways: ['gateway.test'] }), /gateways\.0: must be http/],
    [JSON.stringify({ ...BASE, gateways: ['https://u:p@gateway.test'] }), /gateways\.0: must be/],
    [JSON.stringify({ ...BASE, gateways: [] }), /gateways: must name a gateway/],
    [JSON.stringify({ ...BASE, repository: 'OS' }), /repository: must be a repository name/],
    [JSON.stringify({ ...BASE, tags: 'x' }), /tags: is no setting/],
    ['{"gateway":"https://a.test"}', /gateway: is no setting/],
    [
      JSON.stringify({ ...BASE, limits: { windowLog: 40 } }),
      /limits\.windowLog: must be at most 31/,
    ],
    [JSON.stringify({ ...BASE, stateDir: 'here' }), /stateDir: must be an absolute path/],
    ['{"repository":"a","repository":"b"}', /not JSON/],
  ] as const)('refuses %s', async ([text, message], ctx) => {
    const root = await machine(ctx, text);
    await expect(loadConfig({ root })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(message),
      where: join(root, 'etc/snaphost/config.json'),
    });
  });

  it('refuses a file that was named and is not there', async (ctx) => {
    const root = await machine(ctx);
    const refusal = { code: 'CONFIG_INVALID', where: '/no/such/file' };
    await expect(loadConfig({ root, config: '/no/such/file' })).rejects.toMatchObject(refusal);
  });
});
