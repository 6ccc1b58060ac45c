import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { OCI_MANIFEST } from '../../../shared/oci/media-types.ts';
import { refused } from '../../support/attacked-machine.ts';
import { startHostileRegistry } from '../../support/hostile-registry.ts';
import {
  isManifest,
  SETTINGS,
  sendEndlessly,
  useSignedMachine,
} from '../../support/signed-machine.ts';
import { putTinyImage } from '../../support/tiny-image.ts';

const { attacked, sign } = useSignedMachine();

describe('how it is served', () => {
  it('a manifest without end', async () => {
    attacked.hostile.tamper = ({ url, method }, response) => {
      if (!isManifest(url)) return false;
      response.writeHead(200, { 'content-type': OCI_MANIFEST });
      if (method === 'HEAD') response.end();
      else sendEndlessly(response);
      return true;
    };
    expect(await attacked.update()).toMatchObject(refused('LIMIT_EXCEEDED'));
  });

  it('a body that stalls', async () => {
    attacked.hostile.tamper = ({ url, method }, response) => {
      if (!isManifest(url)) return false;
      response.writeHead(200, { 'content-type': OCI_MANIFEST });
      if (method === 'HEAD') response.end();
      else response.write('{');
      return true;
    };
    expect(await attacked.update()).toMatchObject(refused('UPSTREAM_TIMEOUT'));
  });

  it('a body that comes byte by byte', async () => {
    attacked.hostile.tamper = ({ url, method }, response) => {
      if (!isManifest(url)) return false;
      response.writeHead(200, { 'content-type': OCI_MANIFEST });
      const timer = method === 'HEAD' ? undefined : setInterval(() => response.write(' '), 100);
      response.on('close', () => clearInterval(timer));
      if (method === 'HEAD') response.end();
      return true;
    };
    expect(await attacked.update()).toMatchObject(refused('UPSTREAM_TIMEOUT'));
  });

  it('redirects without end', async () => {
    attacked.hostile.paths.length = 0;
    attacked.hostile.tamper = ({ url }, response) => {
      response.writeHead(307, { location: url }).end();
      return true;
    };
    expect(await attacked.update()).toMatchObject(refused('UPSTREAM_FAILED', /redirect/));
    expect(attacked.hostile.paths.length).toBeLessThan(20);
  });

  it('redirects that would carry credentials elsewhere', async () => {
    const elsewhere = await startHostileRegistry(attacked.hostile.url);
    const seen: (string | undefined)[] = [];
    elsewhere.tamper = ({ headers }, response) => {
      seen.push(headers.authorization);
      response.writeHead(403).end();
      return true;
    };
    const asked: (string | undefined)[] = [];
    attacked.hostile.tamper = ({ url, headers }, response) => {
      asked.push(headers.authorization);
      if (headers.authorization === undefined) {
        response.writeHead(401, { 'www-authenticate': 'Basic realm="test"' }).end();
      } else response.writeHead(307, { location: `${elsewhere.url}${url}` }).end();
      return true;
    };
    const auth = Buffer.from('machine:secret').toString('base64');
    const authFile = join(attacked.machine.root, 'auth.json');
    const { host } = new URL(attacked.hostile.url);
    await writeFile(authFile, JSON.stringify({ auths: { [host]: { auth } } }));
    await attacked.machine.configure(attacked.hostile.url, { ...SETTINGS, authFile });
    expect((await attacked.update()).error.code).toMatch(/^(DENIED|UPSTREAM_FAILED)$/);
    await attacked.machine.configure(attacked.hostile.url, SETTINGS);
    await elsewhere.close();
    // It did answer the registry that it has credentials for, and it was led elsewhere.
    expect(asked).toContain(`Basic ${auth}`);
    expect(new Set(seen)).toEqual(new Set([undefined]));
  });

  it('a layer that goes on after its end', async () => {
    const { stored, layers } = await putTinyImage(attacked.store, [{ a: 'long' }], {
      tag: 'stable',
    });
    await sign(stored);
    attacked.hostile.tamper = ({ url }, response) => {
      if (!url?.endsWith(`/blobs/${layers[0]?.digest}`)) return false;
      response.writeHead(200, { 'content-type': 'application/octet-stream' });
      sendEndlessly(response);
      return true;
    };
    expect((await attacked.update()).error.code).toMatch(/^(SIZE|DIGEST)_INVALID$/);
  });
});
