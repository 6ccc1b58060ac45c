import { describe, expect, it } from 'vitest';
import { deploymentSnapshotId, parseSnapshotId } from '../../../host-client/tukit/snapshot-id.ts';
import { sha256 } from '../../../shared/digest.ts';

const config = sha256(Buffer.from('config'));
const hex = config.slice('sha256:'.length);

describe('ids of snapshots', () => {
  it('name an image, or a deployment by its number', () => {
    expect(parseSnapshotId(hex)).toEqual({ config, work: undefined });
    const id = deploymentSnapshotId({ id: `${hex.slice(0, 12)}-17`, config });
    expect(id).toBe(`${hex}-work17`);
    expect(parseSnapshotId(id)).toEqual({ config, work: 17 });
  });

  it.each(['', hex.slice(1), `${hex}-work`, `${hex}-work0`, `${hex}-work01`, `${hex}/..`, '../x'])(
    'are nothing else: %j',
    (text) => {
      expect(() => parseSnapshotId(text)).toThrow(expect.objectContaining({ code: 'USAGE' }));
    },
  );
});
