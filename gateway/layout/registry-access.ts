import { SnapgateError } from '../../shared/errors.ts';
import type { ContentStore } from '../../shared/oci/content.ts';
import type { RegistryReference } from '../../shared/oci/reference.ts';

/** How a registry is reached. */
export type RegistryAccess = {
  /** Docker or Podman auth file; the usual places are searched when absent. */
  readonly authFile?: string;
  /** Plain HTTP, or HTTPS without checking the certificate. Loopback may always be plain HTTP. */
  readonly insecure?: boolean;
};

/** Opens a repository of a registry with the credentials that the auth files hold for it. */
export async function openRegistry(
  ref: RegistryReference,
  _access: RegistryAccess,
): Promise<{ store: ContentStore; close(): Promise<void> }> {
  throw new SnapgateError('UNSUPPORTED', 'registries cannot be opened yet', {
    where: ref.registry,
  });
}
