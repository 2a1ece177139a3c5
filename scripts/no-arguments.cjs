// Stands in the bundles for convict's parser of command lines: none of our keys is read from one.
module.exports = () => ({});
