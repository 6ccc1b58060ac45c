import { rm, stat } from 'node:fs/promises';
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
  /**
   * Keeps what was written. Without it `close` discards a new folder and every change to an archive;
   * in a folder that was there before, and in a registry, writes count at once.
   */
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
  const { store, commit, close } = await openLayout(ref.kind, ref.path, mode);
  try {
    const tagOrDigest = ref.tag ?? (mode === 'write' ? '' : await store.defaultDigest());
    return { store, tagOrDigest, tag: ref.tag, name, commit, close };
  } catch (thrown) {
    await close();
    throw thrown;
  }
}

/**
 * Does something with references that it opens: what went through `keep` is closed at the end, the last
 * one first.
 */
export async function withReferences<T>(
  task: (keep: (opening: Promise<OpenedReference>) => Promise<OpenedReference>) => Promise<T>,
): Promise<T> {
  const opened: OpenedReference[] = [];
  try {
    return await task(async (opening) => {
      const found = await opening;
      opened.push(found);
      return found;
    });
  } finally {
    for (const one of opened.reverse()) await one.close();
  }
}

type OpenedLayout = {
  readonly store: LayoutStore | ArchiveStore;
  commit(): Promise<void>;
  close(): Promise<void>;
};

async function openLayout(
  kind: 'oci' | 'oci-archive',
  path: string,
  mode: 'read' | 'write',
): Promise<OpenedLayout> {
  if (kind === 'oci-archive') {
    const store = await (mode === 'read' ? ArchiveStore.open(path) : ArchiveStore.create(path));
    return { store, commit: () => store.commit(), close: () => store.close() };
  }
  if (mode === 'read') {
    return { store: await LayoutStore.open(path), commit: async () => {}, close: async () => {} };
  }
  let isUnfinished = (await stat(path).catch(() => undefined)) === undefined;
  const store = await LayoutStore.create(path);
  const commit = async () => {
    isUnfinished = false;
  };
  const close = async () => {
    if (isUnfinished) await rm(path, { recursive: true, force: true });
  };
  return { store, commit, close };
}
