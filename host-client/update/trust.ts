import { readFile } from 'node:fs/promises';
import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { ContentReader } from '../../shared/oci/content.ts';
import { type Policy, parsePolicy, REFUSE_ALL } from '../../shared/policy/policy.ts';
import {
  type Examination,
  type VerifyRequest,
  verifyManifest,
} from '../../shared/policy/verify-manifest.ts';

/** Judges a manifest by the policy. Throws what `verifyManifest` throws. */
export type Trust = (
  digest: Digest,
  kind: 'image' | 'delta',
  signal?: AbortSignal,
  known?: Pick<VerifyRequest, 'stored' | 'within'>,
) => Promise<Examination>;

/** Reads the policy file; a machine without one refuses everything. Throws CONFIG_INVALID. */
export async function readPolicy(file: string): Promise<Policy> {
  try {
    return parsePolicy(await readFile(file, 'utf8'), file);
  } catch (thrown) {
    const { code } = thrown as NodeJS.ErrnoException;
    if (code === 'ENOENT') return REFUSE_ALL;
    if (thrown instanceof SnapgateError) throw thrown;
    throw new SnapgateError('CONFIG_INVALID', 'the policy file cannot be read', {
      where: file,
      cause: thrown,
    });
  }
}

/**
 * Trust by a policy, in what one repository holds; `name` is what the policy calls it. `now` is the
 * time that keys' validity is held against.
 */
export function trustBy(
  policy: Policy,
  name: string,
  reader: ContentReader,
  now: () => Date = () => new Date(),
): Trust {
  return (digest, kind, signal, known) =>
    verifyManifest({
      ...{ ...known, reader, repository: name, digest, kind, policy, now: now() },
      ...(signal === undefined ? {} : { signal }),
    });
}
