-- Annotations heard of, whatever they answer: one that leaves every question out has no vote, and a labeler's second one
-- on an item has none either, but both count where a caller says how many there must be. The votes of before have none
-- here; `count_label_annotations` says how they are counted.
CREATE TABLE annotation (
  tenant     text NOT NULL,
  project    text NOT NULL,
  annotation text NOT NULL,
  kind       smallint NOT NULL,  -- cairn.annotation.v1.AnnotationKind
  PRIMARY KEY (tenant, project, annotation)
);
