export { default } from "dicom-parser";
