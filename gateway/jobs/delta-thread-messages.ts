import type { SnapgateError } from '../../shared/errors.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';
import type { Credentials } from '../../shared/registry/authenticator.ts';
import type { TransportOptions } from '../upstream/transport.ts';
import type { DeltaJobRequest, MadeDelta } from './delta-jobs.ts';

/** What a thread is started with. Credentials stay inside this process. */
export type DeltaThreadTask = {
  readonly request: DeltaJobRequest;
  readonly baseUrl: string;
  readonly transport: TransportOptions;
  readonly sourceCredentials: Credentials | undefined;
  readonly targetCredentials: Credentials | undefined;
  readonly temporaryFolder: string;
  readonly memoryBytes: number;
  readonly effort: number;
  readonly indexFolder: string;
};

/** An error on its way between threads. */
export type PlainError = ReturnType<SnapgateError['toJSON']>;

/** What a thread says. */
export type FromDeltaThread =
  | { readonly kind: 'progress'; readonly fraction: number }
  /** All blobs are stored; the manifest may be signed and published. */
  | { readonly kind: 'publish'; readonly manifest: StoredManifest }
  | { readonly kind: 'done'; readonly made: MadeDelta }
  | { readonly kind: 'failed'; readonly error: PlainError };

/** What a thread is told. */
export type ToDeltaThread =
  | { readonly kind: 'abort' }
  | { readonly kind: 'published' }
  | { readonly kind: 'unpublished'; readonly error: PlainError };
