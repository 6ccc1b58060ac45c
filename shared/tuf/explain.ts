import type { Digest } from '../digest.ts';
import type { SnapgateError } from '../errors.ts';
import type { FoundStatement } from './view.ts';

/** Why a channel means what it means, or why it means nothing. */
export type ChannelExplanation = {
  /** `<repository>/<tag>`. */
  readonly path: string;
  /** The policy's name for the root that trust begins with. */
  readonly root: string;
  readonly digest: Digest | null;
  /** Version of the image, where it is stated. */
  readonly version: string | null;
  /** Who states it, and the number of that statement. */
  readonly role: string | null;
  readonly statement: number | null;
  /** When it was last confirmed. */
  readonly confirmed: string | null;
  readonly refusal: ReturnType<SnapgateError['toJSON']> | null;
};

/** What is to be explained. */
export type ExplainedChannel = {
  readonly path: string;
  readonly root: string;
  readonly found: Omit<FoundStatement, 'keyIDs'> | undefined;
  readonly confirmed?: Date | undefined;
  readonly refusal?: SnapgateError | undefined;
};

/** Explains what a channel means. */
export function explainChannel(about: ExplainedChannel): ChannelExplanation {
  const { path, root, found, confirmed, refusal } = about;
  return {
    ...{ path, root },
    digest: found?.statement.digest ?? null,
    version: found?.statement.version ?? null,
    role: found?.role ?? null,
    statement: found?.version ?? null,
    confirmed: confirmed?.toISOString() ?? null,
    refusal: refusal?.toJSON() ?? null,
  };
}

/** The explanation for people, line by line. */
export function channelLines(one: ChannelExplanation): string[] {
  const { path, root, digest, version, role, statement, confirmed, refusal } = one;
  const lines = [`channel ${path}`, `  trust begins with root ${root}`];
  if (digest !== null) {
    lines.push(`  means ${digest}${version === null ? '' : `, version ${version}`}`);
    lines.push(`  stated by ${role}, statement ${statement}`);
    lines.push(`  confirmed at ${confirmed ?? 'a time that it does not say'}`);
  }
  lines.push(refusal === null ? '  accepted' : `  refused: ${refusal.code}: ${refusal.message}`);
  return lines;
}
