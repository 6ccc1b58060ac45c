import { type Digest, digestFromHex } from '../../shared/digest.ts';
import { keepNewest } from '../../shared/keep-newest.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';
import { parseManifest } from '../../shared/oci/manifest.ts';
import { DELTA_ARTIFACT, isIndexType } from '../../shared/oci/media-types.ts';
import { isTag } from '../../shared/oci/reference.ts';
import type { PlannerOptions } from '../plan/planner.ts';
import { isAttachment } from '../policy/attachment.ts';

/** Most pushed tags that are remembered for signatures that come after them. */
const MAX_REMEMBERED = 4096;
/** Where signatures in the legacy form stand. */
const LEGACY_TAG = /^sha256-([0-9a-f]{64})\.sig$/;

export type PushSigningOptions = {
  /** Whether images of a repository are signed as soon as they are pushed. */
  readonly isWanted: (repository: string) => boolean;
  readonly ensureSigned: NonNullable<PlannerOptions['ensureSigned']>;
};

/**
 * Has images signed by the time that their push is answered. What is pushed by digest alone is part
 * of an index that is still to come, or has no name, and is left for later. A publisher signs after
 * the push, so that a signature that comes in leads to another try.
 */
export class PushSigning {
  readonly #options: PushSigningOptions;
  readonly #tags = new Map<string, string>();

  constructor(options: PushSigningOptions) {
    this.#options = options;
  }

  /** Called with each manifest that the registry has just taken. Throws what `ensureSigned` throws. */
  async pushed(repository: string, reference: string, stored: StoredManifest): Promise<void> {
    if (!this.#options.isWanted(repository)) return;
    const kind = kindOf(reference, stored);
    if (kind === 'other') return;
    if (kind === 'image') {
      keepNewest(this.#tags, `${repository} ${stored.digest}`, reference, MAX_REMEMBERED);
    }
    const manifest = kind === 'image' ? stored.digest : kind.signatureOf;
    const tag = this.#tags.get(`${repository} ${manifest}`);
    if (tag === undefined) return;
    await this.#options.ensureSigned({ repository, tagOrDigest: tag, manifest });
  }
}

type Kind = 'image' | 'other' | { readonly signatureOf: Digest };

function kindOf(reference: string, stored: StoredManifest): Kind {
  const hex = LEGACY_TAG.exec(reference)?.[1];
  if (hex !== undefined) return { signatureOf: digestFromHex(hex) };
  try {
    const isIndex = isIndexType(stored.mediaType);
    const { artifactType, subject } = isIndex ? {} : parseManifest(stored.bytes);
    if (artifactType === DELTA_ARTIFACT) return 'other';
    if (!isAttachment(stored, reference)) return isTag(reference) ? 'image' : 'other';
    return subject === undefined ? 'other' : { signatureOf: subject.digest };
  } catch {
    // The registry takes what is no image here; nobody could verify it.
    return 'other';
  }
}
