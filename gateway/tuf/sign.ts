import type { Metadata } from '@tufjs/models';
import { Signature } from '@tufjs/models';
import { SnapgateError } from '../../shared/errors.ts';
import { type AnySigned, signedBytes, tufKey } from '../../shared/tuf/metadata.ts';
import type { Signer } from '../signing/signer.ts';
import type { TufFolder } from './folder.ts';
import { demandsOf, type TufState } from './state.ts';

/** Adds a key's signature to metadata; one that it made before is replaced. */
export async function addSignature(metadata: Metadata<AnySigned>, signer: Signer): Promise<void> {
  const { keyID } = tufKey(signer.publicKey);
  const sig = Buffer.from(await signer.sign(signedBytes(metadata))).toString('hex');
  metadata.signatures[keyID] = new Signature({ keyID, sig });
}

/**
 * Signs all that is staged and that a key may sign, and gives the names of these roles. Throws
 * KEY_INVALID when there is nothing, NOTHING_TO_DO when nothing is staged.
 */
export async function signStaged(
  folder: TufFolder,
  state: TufState,
  signer: Signer,
): Promise<string[]> {
  if (state.staged.size === 0) {
    throw new SnapgateError('NOTHING_TO_DO', 'nothing waits for a signature', {
      where: folder.dir,
      hint: 'State a channel first, with snapgate tuf add.',
    });
  }
  const { keyID } = tufKey(signer.publicKey);
  const signed: string[] = [];
  for (const [role, metadata] of state.staged) {
    if (!demandsOf(state, role).some(({ keyIDs }) => keyIDs.includes(keyID))) continue;
    await addSignature(metadata, signer);
    await folder.stage(role, metadata);
    signed.push(role);
  }
  if (signed.length > 0) return signed;
  throw new SnapgateError('KEY_INVALID', 'this key may sign nothing of what is staged', {
    where: `key ${keyID}`,
    hint: 'snapgate tuf status names the keys that may.',
  });
}
