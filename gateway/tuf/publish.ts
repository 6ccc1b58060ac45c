import type { Metadata, Root, Targets } from '@tufjs/models';
import { SnapgateError } from '../../shared/errors.ts';
import { encodeMetadata } from '../../shared/tuf/metadata.ts';
import type { TufFolder } from './folder.ts';
import {
  delegatedNames,
  demandsOf,
  isSignedFor,
  type Signing,
  signingOf,
  type TufState,
  wantedTargets,
} from './state.ts';

/**
 * Publishes all that is staged, root first: what enough keys have signed, and only as a whole that
 * clients can take. Gives the names and versions. Throws METADATA_UNSIGNED, NOTHING_TO_DO.
 */
export async function publishStaged(folder: TufFolder, state: TufState): Promise<Signing[]> {
  const signing = signingOf(state);
  const open = signing.find(({ complete }) => !complete);
  if (open !== undefined) throw unsigned(open);
  checkRest(state);
  for (const { role, version } of signing) {
    const metadata = state.staged.get(role) as Metadata<Root> | Metadata<Targets>;
    await folder.publish(role, version, encodeMetadata(metadata));
  }
  for (const { role } of signing) await folder.unstage(role);
  return signing;
}

/** What is not staged must still be vouched for when the rest is published. */
function checkRest(state: TufState): void {
  const delegated = delegatedNames(wantedTargets(state, 'targets'));
  for (const role of ['targets', ...delegated]) {
    const metadata = wantedTargets(state, role);
    const demands = demandsOf(state, role);
    if (metadata === undefined || state.staged.has(role)) continue;
    if (isSignedFor(metadata, demands)) continue;
    throw new SnapgateError('METADATA_UNSIGNED', `${role} is signed by keys that go`, {
      hint: `Run snapgate tuf rotate --role ${role}, and sign it with the keys that stay.`,
    });
  }
}

function unsigned({ role, version, demands }: Signing): SnapgateError {
  const lack = demands.find(({ signed, threshold }) => signed.length < threshold);
  const have = `${lack?.signed.length ?? 0} of ${lack?.threshold ?? 1}`;
  return new SnapgateError('METADATA_UNSIGNED', `${role} ${version}: ${have} signatures`, {
    hint: `Sign with more of its keys: snapgate tuf sign FOLDER --key FILE, of key ${(lack?.keyIDs ?? []).join(' or ')}.`,
  });
}
