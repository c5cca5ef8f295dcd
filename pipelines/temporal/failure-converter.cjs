/**
 * Temporal asks for a module with this export: what a failure says is a payload, and so goes
 * through the codec.
 */
const { DefaultFailureConverter } = require('@temporalio/common');

exports.failureConverter = new DefaultFailureConverter({ encodeCommonAttributes: true });
