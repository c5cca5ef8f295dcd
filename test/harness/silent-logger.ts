import type { Logger } from '../../pipelines/logger.ts';

export const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} };
