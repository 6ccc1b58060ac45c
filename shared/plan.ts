import * as v from 'valibot';
import { digestSchema as digest } from './oci/manifest.ts';

/**
 * The update plan: what the gateway answers to `POST /v2/<name>/_snapgate/plan`. Sizes are bytes on
 * the line. A plan is advice, never trusted: the host verifies all that it leads to.
 */
const bytes = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const seconds = v.pipe(v.number(), v.finite(), v.minValue(0));

/** How one layer of the target comes to the machine. */
const layerSchema = v.object({
  diffId: digest,
  /**
   * reused: same layer on the same parent; reparented: same bytes on another parent, nothing to
   * fetch; delta: rebuilt from a delta blob; full: fetched whole.
   */
  kind: v.picklist(['reused', 'reparented', 'delta', 'full']),
  bytes,
});
const waySchema = v.object({
  method: v.picklist(['delta', 'full']),
  /** The image the machine holds that this way starts from: its config digest; absent for a bare machine. */
  sourceConfig: v.optional(digest),
  sourceManifest: v.optional(digest),
  /** Exact bytes of all blobs and manifests this way fetches; absent while a delta is not made yet. */
  bytes: v.optional(bytes),
  layers: v.optional(v.array(layerSchema)),
  /**
   * Estimates: until the delta is made, where it is not yet; and of building on one common core. What
   * the line takes is for the client to say, who knows its rate.
   */
  seconds: v.optional(v.object({ make: v.optional(seconds), build: seconds })),
  /** Media type of the layer deltas, for `delta`. */
  format: v.optional(v.string()),
  /** ready: can be fetched now; absent: POST to `deltas` makes it; computing; refused: see reason. */
  state: v.picklist(['ready', 'absent', 'computing', 'refused']),
  /** Digest and size of the delta artifact's manifest, once it is ready. */
  artifact: v.optional(v.object({ digest, size: bytes })),
  reason: v.optional(v.string()),
});
/** Most deltas of a chain. */
const MAX_CHAIN = 8;
const chainSchema = v.object({
  /** The image the machine holds that the chain starts from: its config digest. */
  sourceConfig: digest,
  sourceManifest: v.optional(digest),
  /** Exact bytes of all blobs and manifests of all steps. */
  bytes,
  /** An estimate, as that of a way. */
  seconds: v.object({ build: seconds }),
  /** Deltas that are ready, one after the other; the last leads to the target. */
  steps: v.pipe(
    v.array(
      v.object({
        /** Digests of manifest and config of the image that the step leads to. */
        target: digest,
        config: digest,
        artifact: v.object({ digest, size: bytes }),
        format: v.optional(v.string()),
        bytes,
      }),
    ),
    v.minLength(2),
    v.maxLength(MAX_CHAIN),
  ),
});
export const planSchema = v.object({
  target: v.object({
    /** Digest of the platform's image manifest. */
    manifest: digest,
    config: digest,
    platform: v.string(),
    /** Sum of the manifest, config and all compressed layers. */
    fullBytes: bytes,
  }),
  /** Smallest first among the ready ones; a `full` way is always there. */
  ways: v.array(waySchema),
  /**
   * Chains of deltas through images that the machine does not hold, smaller than every way that is
   * ready.
   */
  chains: v.optional(v.array(chainSchema)),
});
export const planRequestSchema = v.object({
  /** Tag or digest of the wanted image or index. */
  target: v.string(),
  /** `os/architecture[/variant]`; needed when the target is an index. */
  platform: v.optional(v.string()),
  /** Config digests of the images held, most wanted source first. */
  have: v.pipe(v.array(digest), v.maxLength(64)),
  /** Media types of layer deltas that the client can read. */
  formats: v.optional(v.pipe(v.array(v.string()), v.maxLength(16))),
});
export const deltaRequestSchema = v.object({
  /** Config or manifest digest of the source image. */
  source: digest,
  /** Repository of the source when it is another one. */
  sourceRepository: v.optional(v.string()),
  /** Manifest digest of the target image. */
  target: digest,
  format: v.optional(v.string()),
});
/**
 * What a machine says to `POST /v2/<name>/_snapgate/encoder-reports` when a delta that was made for its
 * class does not come out right. Unproved: see `gateway/jobs/encoder-reports.ts` for what it can do.
 */
export const encoderReportSchema = v.object({
  /** Digests of the target image's manifest and of the delta's. */
  target: digest,
  artifact: digest,
  /** The name of the recompressing format that the machine asks for. */
  format: v.pipe(v.string(), v.maxLength(256)),
});
/** What `GET /v2/<name>/_snapgate/deltas/<id>` answers, with 202 while it runs and 200 when done. */
export const deltaJobSchema = v.object({
  id: v.string(),
  state: v.picklist(['waiting', 'running', 'done', 'failed']),
  /** 0 to 1. */
  progress: v.optional(v.number()),
  artifact: v.optional(v.object({ digest, size: bytes })),
  error: v.optional(v.object({ code: v.string(), message: v.string() })),
});

export type Plan = v.InferOutput<typeof planSchema>;
export type PlanWay = v.InferOutput<typeof waySchema>;
export type PlanChain = v.InferOutput<typeof chainSchema>;
export type PlanLayer = v.InferOutput<typeof layerSchema>;
export type PlanRequest = v.InferOutput<typeof planRequestSchema>;
export type DeltaRequest = v.InferOutput<typeof deltaRequestSchema>;
export type EncoderReport = v.InferOutput<typeof encoderReportSchema>;
export type DeltaJob = v.InferOutput<typeof deltaJobSchema>;
