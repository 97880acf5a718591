// The smallest useful function: it greets, and shows the context that every call gets.
const greeting = process.env.GREETING ?? "Hello";

export const handler = async (event, context) => {
  if (event.fail) throw new TypeError("asked to fail");
  const name = event.name ?? "world";
  console.log(`greeting ${name}, ${context.getRemainingTimeInMillis()} ms left`);
  return {
    message: `${greeting}, ${name}!`,
    from: `Node.js ${process.versions.node}`,
    version: context.functionVersion,
  };
};
