import type { ContentStore } from '../../shared/oci/content.ts';
import { formatReference, type Reference } from '../../shared/oci/reference.ts';
import { ArchiveStore } from './archive-store.ts';
import { LayoutStore } from './layout-store.ts';
import { openRegistry, type RegistryAccess } from './registry-access.ts';

/** How a reference is opened. */
export type OpenOptions = RegistryAccess & {
  /** `read` (the default) wants the image to be there; `write` makes a missing folder or archive. */
  readonly mode?: 'read' | 'write';
};

/** An opened reference. */
export type OpenedReference = {
  readonly store: ContentStore;
  /**
   * What of the store is meant, ready for `getManifest`. Empty when `mode` is `write` and the
   * reference names no tag.
   */
  readonly tagOrDigest: string;
  /** The tag to write under, when the reference names one. */
  readonly tag: string | undefined;
  /** The reference as text, without credentials. */
  readonly name: string;
  /** Makes writes to an archive real; elsewhere they are already. Nothing is kept without it. */
  commit(): Promise<void>;
  close(): Promise<void>;
};

/**
 * Opens `docker://HOST/REPO[:TAG|@DIGEST]`, `oci:DIR[:TAG]` or `oci-archive:FILE[:TAG]`. Without a
 * tag, a registry reference means `latest` and the others the only image they hold. Throws
 * MANIFEST_UNKNOWN, REFERENCE_INVALID and what reading the place throws.
 */
export async function openReference(
  ref: Reference,
  options: OpenOptions = {},
): Promise<OpenedReference> {
  const name = formatReference(ref);
  const mode = options.mode ?? 'read';
  if (ref.kind === 'docker') {
    const { store, close } = await openRegistry(ref, options);
    const tagOrDigest = ref.digest ?? ref.tag ?? 'latest';
    return { store, tagOrDigest, tag: ref.tag, name, commit: async () => {}, close };
  }
  const store = await openLayout(ref.kind, ref.path, mode);
  const close = async () => {
    if (store instanceof ArchiveStore) await store.close();
  };
  const commit = async () => {
    if (store instanceof ArchiveStore) await store.commit();
  };
  try {
    const tagOrDigest = ref.tag ?? (mode === 'write' ? '' : await store.defaultDigest());
    return { store, tagOrDigest, tag: ref.tag, name, commit, close };
  } catch (thrown) {
    await close();
    throw thrown;
  }
}

function openLayout(
  kind: 'oci' | 'oci-archive',
  path: string,
  mode: 'read' | 'write',
): Promise<LayoutStore | ArchiveStore> {
  if (kind === 'oci') return mode === 'read' ? LayoutStore.open(path) : LayoutStore.create(path);
  return mode === 'read' ? ArchiveStore.open(path) : ArchiveStore.create(path);
}
