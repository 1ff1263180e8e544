-- What inference keeps. Items appear here as copies of what annotation-store announced; their truth is there.

CREATE TABLE project (
    tenant             text NOT NULL,
    project            text NOT NULL,
    revision           bigint NOT NULL,
    -- The question that is routed; empty when none can be, and `unroutable` says why.
    question           text NOT NULL,
    unroutable         text NOT NULL,
    class_ids          text[] NOT NULL,
    alpha              double precision NOT NULL CHECK (alpha > 0 AND alpha < 1),
    delta              double precision NOT NULL CHECK (delta > 0 AND delta < 1),
    validation_share   double precision NOT NULL CHECK (validation_share >= 0 AND validation_share <= 0.5),
    min_answers        integer NOT NULL CHECK (min_answers > 0),
    automatic          boolean NOT NULL,
    -- The version that serves.
    serving_model      text,
    serving_version    bigint,
    -- Rounds of scoring and of routing: an item behind these is still to be scored or routed.
    score_round        bigint NOT NULL DEFAULT 0,
    route_round        bigint NOT NULL DEFAULT 0,
    -- The scoring round that the last routing round followed.
    routed_scores      bigint NOT NULL DEFAULT 0,
    -- The threshold in force, the validation rounds held, and what the last one was held on.
    threshold          bigint,
    thresholds         bigint NOT NULL DEFAULT 0,
    validation_round   integer NOT NULL DEFAULT 0,
    validation_items   integer NOT NULL DEFAULT 0,
    validation_scores  bigint NOT NULL DEFAULT 0,
    -- Why automatic labeling is stopped: 0 it is not, 1 drift, 2 audit, 3 by hand.
    stop               smallint NOT NULL DEFAULT 0 CHECK (stop BETWEEN 0 AND 3),
    stop_reason        text NOT NULL DEFAULT '',
    stop_revision      bigint NOT NULL DEFAULT 0,
    drift_items        integer NOT NULL DEFAULT 0,
    -- Whether labels came since they were last counted, how many the last training had, and when it was asked for.
    labels_changed     boolean NOT NULL DEFAULT false,
    labels_trained     integer NOT NULL DEFAULT 0,
    trained_at         timestamptz,
    PRIMARY KEY (tenant, project),
    CHECK ((serving_model IS NULL) = (serving_version IS NULL)),
    CHECK (threshold IS NULL OR (stop = 0 AND serving_version IS NOT NULL))
);

CREATE TABLE item (
    tenant           text NOT NULL,
    project          text NOT NULL,
    item             text NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    -- Of the validation sample: decided at import, for ever.
    validation       boolean NOT NULL,
    gold             boolean NOT NULL,
    hint             double precision NOT NULL,
    -- 0 nothing to take features from, 1 text, 2 image. The text goes once its features are there.
    content          smallint NOT NULL CHECK (content BETWEEN 0 AND 2),
    body             text,
    blob             text,
    -- 0 wanted, 1 there, 2 there will be none (`feature_error` says why).
    feature_state    smallint NOT NULL CHECK (feature_state BETWEEN 0 AND 2),
    feature_error    text NOT NULL DEFAULT '',
    feature_tries    integer NOT NULL DEFAULT 0,
    feature_after    timestamptz NOT NULL DEFAULT now(),
    spec             text,
    -- What the serving version says; of the scoring round `scored_round`.
    scored_round     bigint NOT NULL DEFAULT 0,
    predicted        text,
    score            double precision,
    margin           double precision,
    -- Where it was sent: 0 pending, 1 auto, 2 human; `route_revision` counts the announcements.
    route            smallint NOT NULL CHECK (route BETWEEN 0 AND 2),
    routed_round     bigint NOT NULL DEFAULT 0,
    route_revision   bigint NOT NULL,
    priority         double precision NOT NULL,
    -- The label that stands for the routed question; `label_source` as in cairn.annotation.v1.LabelSource.
    open             boolean NOT NULL,
    label            text,
    label_source     smallint NOT NULL DEFAULT 0,
    label_confidence double precision NOT NULL DEFAULT 0,
    label_revision   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, project, item),
    FOREIGN KEY (tenant, project) REFERENCES project,
    CHECK (NOT (validation AND gold)),
    -- The promise on which the bound rests: people decide the validation sample, and what is gold is known.
    CHECK (route <> 1 OR NOT (validation OR gold))
);

CREATE INDEX item_wants_features ON item (feature_after) WHERE feature_state = 0;
CREATE INDEX item_scored ON item (tenant, project, scored_round) WHERE feature_state = 1;
CREATE INDEX item_routed ON item (tenant, project, routed_round) WHERE open AND NOT validation;
CREATE INDEX item_pending ON item (created_at) WHERE route = 0;
CREATE INDEX item_labeled ON item (tenant, project, label)
    WHERE label_source >= 2 AND NOT validation AND feature_state = 1;
CREATE INDEX item_validation ON item (tenant, project) WHERE validation;

CREATE TABLE feature (
    tenant   text NOT NULL,
    project  text NOT NULL,
    item     text NOT NULL,
    vector   bytea NOT NULL,
    PRIMARY KEY (tenant, project, item),
    FOREIGN KEY (tenant, project, item) REFERENCES item
);
ALTER TABLE feature ALTER COLUMN vector SET STORAGE EXTERNAL; -- packed already: compressing costs and gains nothing

CREATE TABLE model_version (
    tenant            text NOT NULL,
    project           text NOT NULL,
    model             text NOT NULL,
    version           bigint NOT NULL,
    -- 1 candidate, 2 serving, 3 retired
    state             smallint NOT NULL CHECK (state BETWEEN 1 AND 3),
    sha256            text NOT NULL,
    features          text NOT NULL,
    class_ids         text[] NOT NULL,
    training_labels   bigint NOT NULL,
    accuracy          double precision,
    log_loss          double precision,
    calibration_error double precision,
    evaluated_labels  bigint,
    temperature       double precision,
    training_run      text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, project, model, version),
    FOREIGN KEY (tenant, project) REFERENCES project
);
CREATE UNIQUE INDEX model_version_serving ON model_version (tenant, project) WHERE state = 2;

-- What a version trained without the item says of each item it was trained on: float32, in the order of its classes.
CREATE TABLE out_of_fold (
    tenant        text NOT NULL,
    project       text NOT NULL,
    model         text NOT NULL,
    version       bigint NOT NULL,
    item          text NOT NULL,
    probabilities bytea NOT NULL,
    PRIMARY KEY (tenant, project, model, version, item),
    FOREIGN KEY (tenant, project, model, version) REFERENCES model_version
);

CREATE TABLE training_run (
    tenant        text NOT NULL,
    project       text NOT NULL,
    run           text NOT NULL,
    -- 1 pending, 2 running, 3 finished, 4 failed, 5 cancelled
    state         smallint NOT NULL CHECK (state BETWEEN 1 AND 5),
    attempts      integer NOT NULL DEFAULT 0,
    labels        bigint NOT NULL,
    model         text,
    version       bigint,
    error_code    integer NOT NULL DEFAULT 0,
    error_reason  text NOT NULL DEFAULT '',
    error_message text NOT NULL DEFAULT '',
    created_at    timestamptz NOT NULL DEFAULT now(),
    ended_at      timestamptz,
    PRIMARY KEY (tenant, project, run),
    FOREIGN KEY (tenant, project) REFERENCES project,
    CHECK ((state IN (3, 4, 5)) = (ended_at IS NOT NULL)),
    CHECK ((state = 3) = (version IS NOT NULL))
);
CREATE UNIQUE INDEX training_run_active ON training_run (tenant, project) WHERE state IN (1, 2);

CREATE TABLE threshold (
    tenant            text NOT NULL,
    project           text NOT NULL,
    threshold         bigint NOT NULL,
    -- Above 1 when nothing passes.
    score             double precision NOT NULL,
    alpha             double precision NOT NULL,
    delta             double precision NOT NULL,
    round             integer NOT NULL,
    round_delta       double precision NOT NULL,
    validation_items  bigint NOT NULL,
    validation_errors double precision NOT NULL,
    error_upper_bound double precision NOT NULL,
    coverage          double precision NOT NULL,
    model             text NOT NULL,
    version           bigint NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, project, threshold),
    -- Each round spends its share of delta once.
    UNIQUE (tenant, project, round),
    FOREIGN KEY (tenant, project) REFERENCES project
);
