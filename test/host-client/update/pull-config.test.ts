import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../../host-client/config.ts';
import { targetNamed } from '../../../host-client/update/pull-config.ts';

const own = await loadConfig({
  ...{ root: '/nowhere', gateways: ['http://10.0.0.1:8080'], repository: 'os/image' },
  ...{ tag: 'stable', name: 'gateway.test/os/image' },
});

describe('an image that is named', () => {
  it('is the machine’s own under either host', () => {
    for (const name of ['gateway.test/os/image:next', 'docker://10.0.0.1:8080/os/image:next']) {
      const { config, alias } = targetNamed(name, own);
      expect(config).toEqual({ ...own, tag: 'next' });
      expect(alias).toBe(name.replace('docker://', ''));
    }
  });

  it('has the tag latest when it names none', () => {
    expect(targetNamed('gateway.test/os/image', own).config.tag).toBe('latest');
  });

  it('may be another one behind the same gateways, and keeps to the policy for it', () => {
    const { config } = targetNamed('10.0.0.1:8080/os/other:v1', own);
    expect(config).toMatchObject({ repository: 'os/other', name: 'gateway.test/os/other' });
  });

  it('is not fetched from elsewhere, nor by a digest', () => {
    const code = (name: string) => expect.objectContaining({ code: name });
    expect(() => targetNamed('evil.test/os/image:v1', own)).toThrow(code('CONFIG_INVALID'));
    const digest = `gateway.test/os/image@sha256:${'0'.repeat(64)}`;
    expect(() => targetNamed(digest, own)).toThrow(code('UNSUPPORTED'));
    expect(() => targetNamed('stable', own)).toThrow(code('REFERENCE_INVALID'));
  });
});
