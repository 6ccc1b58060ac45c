import * as v from 'valibot';
import type { Digest } from '../../shared/digest.ts';
import { digestSchema as digest } from '../../shared/oci/manifest.ts';

/** What an update came to: the object that `update --json` ends with. */
export type UpdateReport = {
  /** Manifest digest of the image that booted next before; null on a machine without one. */
  readonly from: Digest | null;
  /** Manifest digest of the image that the tag stands for. */
  readonly to: Digest;
  /** How the image came: rebuilt from a delta, fetched whole, or not at all. */
  readonly method: 'delta' | 'full' | 'none';
  /** Bytes of all answers on the line: manifests and signatures too, headers not. */
  readonly bytesDownloaded: number;
  /** Bytes that a pull of the whole image takes. */
  readonly fullBytes: number;
  /** Bytes of downloads and of file content written to the disk. */
  readonly bytesWritten: number;
  /**
   * What was expected before the download began: bytes of blobs, and seconds, null when nothing was
   * known of the line. Null when nothing had to come.
   */
  readonly estimate: { readonly bytes: number; readonly seconds: number | null } | null;
  readonly seconds: number;
  readonly peakRssBytes: number;
  /** Why the method is not `delta` where it could have been expected to be; else null. */
  readonly fallbackReason: string | null;
  /** Id of the deployment that boots next; null when none was made yet. */
  readonly deployment: string | null;
};

/** What a pull came to: the object that `pull --json` prints. */
export type PullReport = Pick<
  UpdateReport,
  'method' | 'bytesDownloaded' | 'fullBytes' | 'bytesWritten' | 'fallbackReason'
> & {
  /** Digest of the config, which is Podman's image id, and of the manifest. */
  readonly image: Digest;
  readonly manifest: Digest;
  /** The name that Podman shows. */
  readonly name: string;
};

/** What the tag named when it was last looked at, so that nothing is asked twice. */
export const seenSchema = v.object({
  /** Name of the image with its tag. */
  image: v.string(),
  /** Digest of the manifest or index that the tag named. */
  resolved: digest,
  manifest: digest,
  fullBytes: v.number(),
});
export type Seen = v.InferOutput<typeof seenSchema>;

/** How the last attempt ended. */
export const attemptSchema = v.object({
  /** ISO 8601. */
  time: v.string(),
  result: v.picklist(['updated', 'nothing', 'downloaded', 'failed']),
  to: v.optional(digest),
  method: v.optional(v.string()),
  error: v.optional(
    v.object({
      code: v.string(),
      message: v.string(),
      where: v.optional(v.string()),
      hint: v.optional(v.string()),
    }),
  ),
});
export type Attempt = v.InferOutput<typeof attemptSchema>;
