import { describe, expect, it } from 'vitest';
import { pullImage } from '../../../host-client/update/pull.ts';
import { machineScene as scene } from './machine-scene.ts';

describe('a pull', () => {
  it('brings no image that has failed here, unless it is told to', async (ctx) => {
    const { machine, publish, deployments, storage } = await scene(ctx);
    const image = await publish([{ base: '1' }]);
    deployments.failed = 'it did not boot';
    await expect(pullImage(machine)).rejects.toMatchObject({
      code: 'POLICY_REFUSED',
      message: 'this image has failed here: it did not boot',
      hint: expect.stringContaining('--again'),
    });
    expect(await storage.listImages()).toEqual([]);
    expect(await pullImage(machine, { again: true })).toMatchObject({ image: image.config });
  });
});
