export { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
