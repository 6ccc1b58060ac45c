import { type ChannelExplanation, explainChannel } from '../../shared/tuf/explain.ts';
import { issuedAt } from '../../shared/tuf/metadata.ts';
import { expiryOf, findStatement, type TrustedView } from '../../shared/tuf/view.ts';

/** What a machine knows of the channel that its policy asks for, without asking anybody. */
export type KnownChannel = Omit<ChannelExplanation, 'refusal'> & {
  /** Instant from which nothing is taken by it, unless newer metadata comes. */
  readonly expires: string | null;
  /** The oldest statement of its role that is still taken; null while all are. */
  readonly floor: number | null;
};

/** Describes what the metadata that was accepted last says; `view` is undefined where there is none. */
export function knownChannel(
  path: string,
  root: string,
  view: TrustedView | undefined,
  floorOf: (found: { role: string; keyIDs: readonly string[] }) => number | undefined,
): KnownChannel {
  const found = view === undefined ? undefined : findStatement(view, path);
  const confirmed = view === undefined ? undefined : issuedAt(view.timestamp.signed);
  const { refusal: _, ...known } = explainChannel({ path, root, found, confirmed });
  if (view === undefined || found === undefined) {
    return { ...known, expires: null, floor: null };
  }
  return {
    ...known,
    expires: expiryOf(view, found.role).toISOString(),
    floor: floorOf(found) ?? null,
  };
}
