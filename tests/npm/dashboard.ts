// What a dashboard in a file must be, by the types of Grafana itself.
//
// Three things are different in a file. A member of an enum stands there as its value. What a panel
// leaves out is its plugin's default. And @grafana/schema does not say which options go with which
// kind of panel, nor what Prometheus's data source adds to an annotation, so that is said here.
import type {
    AnnotationQuery,
    Dashboard,
    FieldConfig,
    FieldConfigSource,
    Panel,
    RowPanel,
    TableFieldOptions,
} from "@grafana/schema";
import type * as barGauge from "@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as stateTimeline from "@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen";
import type * as statusHistory from "@grafana/schema/dist/esm/raw/composable/statushistory/panelcfg/x/StatusHistoryPanelCfg_types.gen";
import type * as table from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type * as timeSeries from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

type Json<T> = T extends string
    ? `${T}`
    : T extends object
      ? { [Key in keyof T]: Json<T[Key]> }
      : T;

type Field<Custom> = Omit<Json<FieldConfig>, "custom"> & { custom?: Json<Partial<Custom>> };

type Kind<Name, Options, Custom> = Omit<Json<Panel>, "type" | "options" | "fieldConfig"> & {
    type: Name;
    options?: Json<Partial<Options>>;
    fieldConfig: Omit<Json<FieldConfigSource>, "defaults"> & { defaults: Field<Custom> };
};

type AnyPanel =
    | Kind<"bargauge", barGauge.Options, {}>
    | Kind<"stat", stat.Options, {}>
    | Kind<"state-timeline", stateTimeline.Options, stateTimeline.FieldConfig>
    | Kind<"status-history", statusHistory.Options, statusHistory.FieldConfig>
    | Kind<"table", table.Options, TableFieldOptions>
    | Kind<"timeseries", timeSeries.Options, timeSeries.FieldConfig>;

type PrometheusAnnotation = Json<AnnotationQuery> & {
    expr: string;
    step: string;
    textFormat: string;
    titleFormat: string;
    useValueForTime?: boolean;
};

export type DashboardFile = Omit<Json<Dashboard>, "annotations" | "panels"> & {
    annotations: { list: PrometheusAnnotation[] };
    panels: (AnyPanel | (Json<RowPanel> & { type: "row" }))[];
};
