/** Media types of the OCI image specification 1.1, of Docker's schema 2, and of this project. */
export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
export const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json';
export const OCI_EMPTY = 'application/vnd.oci.empty.v1+json';
export const OCI_LAYER_TAR = 'application/vnd.oci.image.layer.v1.tar';
export const OCI_LAYER_GZIP = 'application/vnd.oci.image.layer.v1.tar+gzip';
export const OCI_LAYER_ZSTD = 'application/vnd.oci.image.layer.v1.tar+zstd';
export const DOCKER_MANIFEST = 'application/vnd.docker.distribution.manifest.v2+json';
export const DOCKER_MANIFEST_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json';
export const DOCKER_CONFIG = 'application/vnd.docker.container.image.v1+json';
export const DOCKER_LAYER_GZIP = 'application/vnd.docker.image.rootfs.diff.tar.gzip';
export const DOCKER_LAYER_TAR = 'application/vnd.docker.image.rootfs.diff.tar';

/** `artifactType` of a delta, as the oci-delta tool writes and reads it. */
export const DELTA_ARTIFACT = 'application/vnd.io.github.containers.oci-delta.v1';
/** A layer delta in the format of github.com/containers/tar-diff. */
export const TAR_DIFF = 'application/vnd.tar-diff';
/** A layer delta in the project's own format (shared/delta/FORMAT.md). */
export const LAYER_DELTA = 'application/vnd.snapgate.layer-delta.v1';

/** A Sigstore bundle, as cosign 3 stores it. */
export const SIGSTORE_BUNDLE = 'application/vnd.dev.sigstore.bundle.v0.3+json';
/** A legacy cosign payload ("simple signing"). */
export const SIMPLE_SIGNING = 'application/vnd.dev.cosign.simplesigning.v1+json';

/** What is sent as Accept when a manifest is asked for. */
export const MANIFEST_ACCEPT = [
  OCI_MANIFEST,
  OCI_INDEX,
  DOCKER_MANIFEST,
  DOCKER_MANIFEST_LIST,
] as const;

/** Whether a media type is that of an index or a Docker manifest list. */
export function isIndexType(mediaType: string): boolean {
  return mediaType === OCI_INDEX || mediaType === DOCKER_MANIFEST_LIST;
}

/** How a layer's tar stream is packed. */
export type LayerCompression = 'none' | 'gzip' | 'zstd';

/** The compression that a layer's media type names, or undefined for a type that is no tar layer. */
export function layerCompression(mediaType: string): LayerCompression | undefined {
  switch (mediaType) {
    case OCI_LAYER_TAR:
    case DOCKER_LAYER_TAR:
      return 'none';
    case OCI_LAYER_GZIP:
    case DOCKER_LAYER_GZIP:
      return 'gzip';
    case OCI_LAYER_ZSTD:
      return 'zstd';
    default:
      return undefined;
  }
}
