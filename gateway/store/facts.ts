import type { Digest } from '../../shared/digest.ts';

/** One layer of an image: what the machine identifies it by, and what travels. */
export type LayerFacts = {
  readonly diffId: Digest;
  /** Digest and size (bytes) of the compressed blob. */
  readonly digest: Digest;
  readonly size: number;
};

/** What plans need to know of a platform's image. Sizes are bytes. */
export type ImageFacts = {
  readonly manifest: Digest;
  readonly manifestSize: number;
  readonly config: Digest;
  readonly configSize: number;
  /** `os/architecture[/variant]`. */
  readonly platform: string;
  readonly layers: readonly LayerFacts[];
};

/** What plans need to know of a delta artifact. Sizes are bytes. */
export type DeltaFacts = {
  readonly artifact: Digest;
  /** Size of the artifact's manifest. */
  readonly size: number;
  readonly target: Digest;
  readonly sourceConfig: Digest;
  readonly sourceManifest?: Digest;
  /** Media type of its layer deltas; absent when it holds none. */
  readonly format?: string;
  /** All bytes that fetching it takes: its manifest and every layer. */
  readonly bytes: number;
  /** Seconds for which encoders run when it is applied; absent where it does not say. */
  readonly encodeSeconds?: number;
  /** Per layer of the target that travels: its compressed digest, and how it does. */
  readonly parts: readonly {
    readonly to: Digest;
    readonly kind: 'delta' | 'full';
    readonly bytes: number;
    /** Length of the tar stream, where it is stated. */
    readonly tarBytes?: number;
  }[];
};

/** How the making of a delta ended. */
export type JobRecord = {
  readonly id: string;
  readonly repository: string;
  readonly target: Digest;
  readonly sourceConfig: Digest;
  readonly format: string;
  readonly artifact?: { readonly digest: Digest; readonly size: number };
  readonly error?: { readonly code: string; readonly message: string };
  /** Milliseconds since 1970. */
  readonly finishedAt: number;
};

/** A manifest that the gate let through by one policy, and what it reaches in its repository. */
export type GateRecord = {
  readonly repository: string;
  /** Digest of the policy file. */
  readonly policy: Digest;
  readonly manifest: Digest;
  readonly outcome: 'accepted' | 'attachment';
  /** Milliseconds since 1970; from then on it is judged again. */
  readonly until: number;
  readonly blobs: readonly Digest[];
  readonly manifests: readonly Digest[];
};
