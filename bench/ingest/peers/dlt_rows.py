"""The same job with dlt: its rest_api source into Parquet files, with its own defaults but for the codec."""

import os
import sys

base_url, out, scratch = sys.argv[1:4]
os.environ.update(
    {
        "DLT_DATA_DIR": scratch,
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "WARNING",
        "DATA_WRITER__COMPRESSION": "zstd",
    }
)

import dlt  # noqa: E402  (it reads the environment when it is imported)
from dlt.sources.rest_api import rest_api_source  # noqa: E402

source = rest_api_source(
    {
        "client": {
            "base_url": base_url,
            "paginator": {"type": "page_number", "base_page": 1, "page_param": "page", "total_path": "total_pages"},
        },
        "resources": [
            {
                "name": "rows",
                "primary_key": "id",
                "write_disposition": "replace",
                "endpoint": {"path": "rows", "params": {"per_page": 1000}, "data_selector": "data"},
            }
        ],
    }
)
pipeline = dlt.pipeline(
    "bench", pipelines_dir=scratch, destination=dlt.destinations.filesystem(f"file://{out}"), dataset_name="bench"
)
pipeline.run(source, loader_file_format="parquet").raise_on_failed_jobs()
