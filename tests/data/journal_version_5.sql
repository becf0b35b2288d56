-- A journal as version 5 of the tables wrote it: `sqlite3 journal.db .dump`, with the marks of the file.
PRAGMA application_id = 1667330145;
PRAGMA user_version = 5;
BEGIN TRANSACTION;
CREATE TABLE about (
        recording_id TEXT NOT NULL REFERENCES recording,
        asset_id TEXT NOT NULL REFERENCES asset,
        PRIMARY KEY (recording_id, asset_id)
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "about" VALUES('rec-a','s');
INSERT INTO "about" VALUES('rec-b','s');
CREATE TABLE activity (
        activity_id TEXT PRIMARY KEY,
        seq INTEGER NOT NULL,
        changed_seq INTEGER NOT NULL,
        left_at TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "activity" VALUES('act',14,14,'2026-07-06T10:00:00.000000+00:00');
CREATE TABLE asset (
        asset_id TEXT PRIMARY KEY,
        recording_id TEXT NOT NULL REFERENCES recording,
        role TEXT NOT NULL,
        state TEXT NOT NULL,
        expected_bytes INTEGER NOT NULL,
        size_bytes INTEGER,
        blake3 TEXT,
        sha256 TEXT,
        receipt TEXT,
        reason TEXT NOT NULL,
        resume_to TEXT,
        same_as TEXT NOT NULL,
        alarm_at TEXT NOT NULL,
        late_at TEXT
    , held_at TEXT, probed INTEGER NOT NULL DEFAULT 0, device_id TEXT NOT NULL DEFAULT '') STRICT, WITHOUT ROWID
    ;
INSERT INTO "asset" VALUES('a','rec-a','original','stored',1000,1000,'17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f','ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb','{"confirmed_at":"2026-07-06T09:00:00+00:00","digests":{"blake3":"17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f","sha256":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"},"locked_until":"2027-01-02T09:00:00+00:00","object":"originals/a","size_bytes":1000,"store":"central"}','',NULL,'','2026-07-08T08:00:00.000000+00:00','2026-07-08T09:00:00.000000+00:00','2026-07-06T09:00:00.000000+00:00',1,'device');
INSERT INTO "asset" VALUES('b','rec-b','original','held',1000,1000,'10e5cf3d3c8a4f9f3468c8cc58eea84892a22fdadbc1acb22410190044c1d553','3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d',NULL,'',NULL,'','2026-07-08T08:00:00.000000+00:00','2026-07-08T09:00:00.000000+00:00','2026-07-06T09:00:00.000000+00:00',1,'device');
INSERT INTO "asset" VALUES('c','rec-c','original','matched',1000,1000,'17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f','ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb',NULL,'',NULL,'a','2026-07-08T08:00:00.000000+00:00','2026-07-08T09:00:00.000000+00:00',NULL,1,'device');
INSERT INTO "asset" VALUES('s','rec-a','statement','wanted',1000,NULL,'3d1d92230feb6db469532f26d9e2d7ab2b9a7982924c2706ac5a89679756e6bf','043a718774c572bd8a25adbeb1bfcd5c0256ae11cecf9f9c3f925d0e52beaf89',NULL,'',NULL,'','2026-07-08T08:00:00.000000+00:00',NULL,NULL,0,'device');
CREATE TABLE attempt (
        asset_id TEXT PRIMARY KEY,
        begun INTEGER NOT NULL,
        failed INTEGER NOT NULL,
        next_at TEXT NOT NULL,
        last_error TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    ;
CREATE TABLE block (
        asset_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        size_bytes INTEGER NOT NULL,
        blake3 TEXT NOT NULL,
        holes TEXT NOT NULL,
        PRIMARY KEY (asset_id, number)
    ) STRICT, WITHOUT ROWID
    ;
CREATE TABLE clip (
        docking_id TEXT NOT NULL REFERENCES docking (docking_id),
        number INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        asset_id TEXT REFERENCES asset,
        likeness BLOB NOT NULL,
        bytes INTEGER NOT NULL,
        mode TEXT NOT NULL,
        outcome TEXT NOT NULL,
        reason TEXT NOT NULL,
        alarm_at TEXT NOT NULL,
        PRIMARY KEY (docking_id, number)
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "clip" VALUES('d1',1,2,'a',X'0B3CD68A6C4ADF46F9DCE74CE58A8130',1000,'pull','pulled','','2026-07-08T08:00:00.000000+00:00');
INSERT INTO "clip" VALUES('d1',2,3,'b',X'A19A0D7A6E266EC09B13D5AB8F7060E2',1000,'pull','pulled','','2026-07-08T08:00:00.000000+00:00');
INSERT INTO "clip" VALUES('d1',3,4,'c',X'AF5BBAA17090C583609A2362EC991054',1000,'pull','already_held','','2026-07-08T08:00:00.000000+00:00');
CREATE TABLE counter (
        scope TEXT NOT NULL,
        name TEXT NOT NULL,
        files INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (scope, name)
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "counter" VALUES('asset','held',1,1000);
INSERT INTO "counter" VALUES('asset','matched',1,1000);
INSERT INTO "counter" VALUES('asset','stored',1,1000);
INSERT INTO "counter" VALUES('asset','wanted',0,0);
INSERT INTO "counter" VALUES('clip','already_held',1,1000);
INSERT INTO "counter" VALUES('clip','pending',0,0);
INSERT INTO "counter" VALUES('clip','pulled',2,2000);
INSERT INTO "counter" VALUES('d1','already_held',1,1000);
INSERT INTO "counter" VALUES('d1','pending',0,0);
INSERT INTO "counter" VALUES('d1','pulled',2,2000);
INSERT INTO "counter" VALUES('document','wanted',1,1000);
INSERT INTO "counter" VALUES('metadata','incomplete',3,0);
CREATE TABLE custody (
        recorder_id TEXT PRIMARY KEY,
        custody TEXT NOT NULL,
        issued_at TEXT NOT NULL,
        changed_at TEXT NOT NULL,
        unseen_since TEXT,
        back_by TEXT
    ) STRICT, WITHOUT ROWID
    ;
CREATE TABLE device (
        device_id TEXT PRIMARY KEY,
        first_seq INTEGER NOT NULL,
        last_seq INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "device" VALUES('device',1,1);
CREATE TABLE docking (
        seq INTEGER PRIMARY KEY,
        docking_id TEXT NOT NULL UNIQUE,
        device_id TEXT NOT NULL REFERENCES device,
        opened_at TEXT NOT NULL,
        listed_at TEXT,
        metadata_blake3 TEXT NOT NULL DEFAULT '',
        closed_at TEXT,
        reason TEXT NOT NULL DEFAULT ''
    ) STRICT
    ;
INSERT INTO "docking" VALUES(1,'d1','device','2026-07-06T09:00:00.000000+00:00','2026-07-06T09:00:00.000000+00:00','abababababababababababababababababababababababababababababababab',NULL,'');
CREATE TABLE document (
        asset_id TEXT PRIMARY KEY REFERENCES asset,
        kind TEXT NOT NULL,
        seq INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "document" VALUES('s','statement',13);
CREATE TABLE event (
        seq INTEGER PRIMARY KEY,
        at TEXT NOT NULL,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        detail TEXT NOT NULL,
        hash BLOB NOT NULL CHECK (length(hash) = 32)
    ) STRICT
    ;
INSERT INTO "event" VALUES(1,'2026-07-06T09:00:00.000000+00:00','docking_opened','d1','{"device":{"driver":"mass_storage","filesystem_ids":["1A2B-3C4D"],"label":"\u6267\u6cd5\u4eea","port":"1-2","product":"DSJ-V8","serial":"058F63666485","size_bytes":32000000000,"vendor":"EXAMPLE"},"device_id":"device","docking_id":"d1","slot":"slot-1"}',X'F5E1699319FAE0E7847FCD718A247BF8ED82E322AC0F1EBC1B215E116E72C989');
INSERT INTO "event" VALUES(2,'2026-07-06T09:00:00.000000+00:00','clip_seen','a','{"asset":{"asset_id":"a","expected_bytes":1000,"recording_id":"rec-a","role":"original","state":"wanted"},"asset_id":"a","clip":{"created":{"local":"2026-07-06T08:00:00"},"entry_offset":4128,"flags":["archive"],"modified":{"local":"2026-07-06T08:00:00"},"number":1,"path":"DCIM/100/\u89c6\u989100001.MP4","raw_name":"4400430049004d002f003100300030002f00c6899198300030003000300031002e004d0050003400","readable_bytes":1000,"size_bytes":1000},"docking_id":"d1","mode":"pull","recording":{"captured_earliest":null,"captured_latest":"2026-07-06T09:00:00+00:00","clock_trust":"unmeasured","deadline":{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"},"device_id":"device","medium":"video","recording_id":"rec-a"}}',X'24CFAB49CDDA907A81E42688D5345B988B8D62C442F4A8FE28A0A4AE63B05F65');
INSERT INTO "event" VALUES(3,'2026-07-06T09:00:00.000000+00:00','clip_seen','b','{"asset":{"asset_id":"b","expected_bytes":1000,"recording_id":"rec-b","role":"original","state":"wanted"},"asset_id":"b","clip":{"created":{"local":"2026-07-06T08:00:00"},"entry_offset":4160,"flags":["archive"],"modified":{"local":"2026-07-06T08:00:00"},"number":2,"path":"DCIM/100/\u89c6\u989100002.MP4","raw_name":"4400430049004d002f003100300030002f00c6899198300030003000300032002e004d0050003400","readable_bytes":1000,"size_bytes":1000},"docking_id":"d1","mode":"pull","recording":{"captured_earliest":null,"captured_latest":"2026-07-06T09:00:00+00:00","clock_trust":"unmeasured","deadline":{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"},"device_id":"device","medium":"video","recording_id":"rec-b"}}',X'107D3DD16A6E5F8BDA21FBFD12D2036EC9C340EEB4BB271B0CCB4AEB2B5EBD33');
INSERT INTO "event" VALUES(4,'2026-07-06T09:00:00.000000+00:00','clip_seen','c','{"asset":{"asset_id":"c","expected_bytes":1000,"recording_id":"rec-c","role":"original","state":"wanted"},"asset_id":"c","clip":{"created":{"local":"2026-07-06T08:00:00"},"entry_offset":4192,"flags":["archive"],"modified":{"local":"2026-07-06T08:00:00"},"number":3,"path":"DCIM/100/\u89c6\u989100003.MP4","raw_name":"4400430049004d002f003100300030002f00c6899198300030003000300033002e004d0050003400","readable_bytes":1000,"size_bytes":1000},"docking_id":"d1","mode":"pull","recording":{"captured_earliest":null,"captured_latest":"2026-07-06T09:00:00+00:00","clock_trust":"unmeasured","deadline":{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"},"device_id":"device","medium":"video","recording_id":"rec-c"}}',X'01AE093573D5C420AFAB47B64C0900262BAFBC8016D21B843346D470C03A37F1');
INSERT INTO "event" VALUES(5,'2026-07-06T09:00:00.000000+00:00','docking_listed','d1','{"docking_id":"d1","metadata_blake3":"abababababababababababababababababababababababababababababababab","seen":3}',X'94547DF098DA5FA6986FECAD82953F5957BD16D3AA4270403A1CDE89DC89F03C');
INSERT INTO "event" VALUES(6,'2026-07-06T09:00:00.000000+00:00','acquired','a','{"asset_id":"a","docking_id":"d1","event":{"acquired":{"held":{"asset_id":"a","digests":{"blake3":"17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f","sha256":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"},"path":"/vault/17/17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f","sealed":true,"size_bytes":1000}}},"number":1,"outcome":"pulled"}',X'91DFD088F7CFB58E8327AB5FD16EC054B9752BCD1EEBA188734808A77D9EEABB');
INSERT INTO "event" VALUES(7,'2026-07-06T09:00:00.000000+00:00','acquired','b','{"asset_id":"b","docking_id":"d1","event":{"acquired":{"held":{"asset_id":"b","digests":{"blake3":"10e5cf3d3c8a4f9f3468c8cc58eea84892a22fdadbc1acb22410190044c1d553","sha256":"3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"},"path":"/vault/10/10e5cf3d3c8a4f9f3468c8cc58eea84892a22fdadbc1acb22410190044c1d553","sealed":true,"size_bytes":1000}}},"number":2,"outcome":"pulled"}',X'F2DF136852D1DF19361BE5096E4EF7A41A5B87F5C294A7EC3BAB5FD2C88C2CD8');
INSERT INTO "event" VALUES(8,'2026-07-06T09:00:00.000000+00:00','matched','c','{"asset_id":"c","docking_id":"d1","event":{"matched":{"digests":{"blake3":"17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f","sha256":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"},"same_as":"a"}},"number":3,"outcome":"already_held"}',X'E2E0C3E36B2D24F3EE26399A7074F785A8318F30FC7618D6C336447B17A261A6');
INSERT INTO "event" VALUES(9,'2026-07-06T09:00:00.000000+00:00','probed','a','{"asset_id":"a","facts":{"container":"mov,mp4","created":"2026-07-06T08:59:56Z","duration_ms":4000,"header_ms":4000,"integrity":"complete","measured":"packets","medium":"video","stream_count":2,"streams":[{"codec":"h264","duration_ms":4000,"fps":"25","height":1080,"kind":"video","width":1920},{"codec":"aac","kind":"audio"}]},"new":{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"},"old":{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"},"time":{"basis":"container","clock_trust":"unmeasured","earliest":"2026-07-06T09:00:00+00:00","latest":"2026-07-06T09:00:00+00:00","made_end":"2026-07-06T09:00:00+00:00","made_start":"2026-07-06T08:59:56+00:00","sources":[{"agrees":true,"basis":"container","raw":"2026-07-06T08:59:56Z","readings":["2026-07-06T09:00:00+00:00"]}]}}',X'B20E5EC81016DD5665853DA5607E17C68DB5C971A6BF6D59B97FFA3D8A410887');
INSERT INTO "event" VALUES(10,'2026-07-06T09:00:00.000000+00:00','probed','b','{"asset_id":"b","facts":{"container":"mov,mp4","created":"2026-07-06T08:59:56Z","duration_ms":4000,"header_ms":4000,"integrity":"truncated","measured":"packets","medium":"video","reason":"why","stream_count":2,"streams":[{"codec":"h264","duration_ms":4000,"fps":"25","height":1080,"kind":"video","width":1920},{"codec":"aac","kind":"audio"}]},"new":{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"},"old":{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"},"time":{"basis":"container","clock_trust":"unmeasured","earliest":"2026-07-06T09:00:00+00:00","latest":"2026-07-06T09:00:00+00:00","made_end":"2026-07-06T09:00:00+00:00","made_start":"2026-07-06T08:59:56+00:00","sources":[{"agrees":true,"basis":"container","raw":"2026-07-06T08:59:56Z","readings":["2026-07-06T09:00:00+00:00"]}]}}',X'110F1DFC5ACEE805236E6ACFAB4A077F157992B1BD63E44725310561D86399C5');
INSERT INTO "event" VALUES(11,'2026-07-06T09:00:00.000000+00:00','probed','c','{"asset_id":"c","facts":{"container":"mov,mp4","created":"2026-07-06T08:59:56Z","duration_ms":4000,"header_ms":4000,"integrity":"complete","measured":"packets","medium":"video","stream_count":2,"streams":[{"codec":"h264","duration_ms":4000,"fps":"25","height":1080,"kind":"video","width":1920},{"codec":"aac","kind":"audio"}]},"new":{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"},"old":{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"},"time":{"basis":"container","clock_trust":"unmeasured","earliest":"2026-07-06T09:00:00+00:00","latest":"2026-07-06T09:00:00+00:00","made_end":"2026-07-06T09:00:00+00:00","made_start":"2026-07-06T08:59:56+00:00","sources":[{"agrees":true,"basis":"container","raw":"2026-07-06T08:59:56Z","readings":["2026-07-06T09:00:00+00:00"]}]}}',X'F67C412DA2F983818E210398B99EF7098BA33E4647D9B676437D5FDFC6A6844C');
INSERT INTO "event" VALUES(12,'2026-07-06T09:00:00.000000+00:00','confirmed','a','{"asset_id":"a","event":{"confirmed":{"receipt":{"confirmed_at":"2026-07-06T09:00:00+00:00","digests":{"blake3":"17762fddd969a453925d65717ac3eea21320b66b54342fde15128d6caf21215f","sha256":"ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"},"locked_until":"2027-01-02T09:00:00+00:00","object":"originals/a","size_bytes":1000,"store":"central"}}}}',X'2F8345673406C37C7D778B0DDC71D131D133C42652D752ABC7F7FC1A7E237C76');
INSERT INTO "event" VALUES(13,'2026-07-06T09:00:00.000000+00:00','document_added','s','{"asset":{"asset_id":"s","digests":{"blake3":"3d1d92230feb6db469532f26d9e2d7ab2b9a7982924c2706ac5a89679756e6bf","sha256":"043a718774c572bd8a25adbeb1bfcd5c0256ae11cecf9f9c3f925d0e52beaf89"},"expected_bytes":1000,"recording_id":"rec-a","role":"statement","state":"wanted"},"recordings":["rec-a","rec-b"],"said":{"statement":{"at":"2026-07-06T09:00:00+00:00","fields":{"place":"\u53bf\u57ce"},"who":"\u5f20\u4e09","why":"\u8865\u5145"}}}',X'9C3116817925F21008FB3C46BD5C2114EC97C4A5158FBBEB3B010794FCA8D29F');
INSERT INTO "event" VALUES(14,'2026-07-06T09:00:00.000000+00:00','activity_stated','act','{"activity_id":"act","arrived_at":"2026-07-06T09:00:00+00:00","left_at":"2026-07-06T10:00:00+00:00","recordings":["rec-a","rec-b"],"stage":"S08","who":"\u5f20\u4e09","why":"\u5148\u884c\u767b\u8bb0\u4fdd\u5b58"}',X'0BDBB93002D0FCF8DDB8B2636EC7EE951CA10DA1748B1D25210FADE7A7913439');
INSERT INTO "event" VALUES(15,'2026-07-06T09:00:00.000000+00:00','no_speech_found','a','{"asset_id":"a","tool":"asr 1.0"}',X'0DA8A065232DC8DFE44D8EC5C1BEB14A343B2234A2E7A81066E1428D2ADC8EEC');
CREATE TABLE explanation (
        activity_id TEXT NOT NULL REFERENCES activity,
        number INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        confirmed_seq INTEGER,
        PRIMARY KEY (activity_id, number)
    ) STRICT, WITHOUT ROWID
    ;
CREATE TABLE metadata (
        recording_id TEXT PRIMARY KEY REFERENCES recording,
        completeness TEXT NOT NULL,
        lacks TEXT NOT NULL,
        version INTEGER NOT NULL,
        has_transcript INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "metadata" VALUES('rec-a','incomplete','method makers proof_object',1,0);
INSERT INTO "metadata" VALUES('rec-b','incomplete','method makers proof_object',1,0);
INSERT INTO "metadata" VALUES('rec-c','incomplete','method makers proof_object',0,0);
CREATE TABLE note (
        subject TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (subject, name)
    ) STRICT, WITHOUT ROWID
    ;
CREATE TABLE recording (
        recording_id TEXT PRIMARY KEY,
        device_id TEXT NOT NULL,
        seq INTEGER NOT NULL
    , deadline TEXT NOT NULL DEFAULT '', stated TEXT, declared TEXT, ended TEXT, medium TEXT NOT NULL DEFAULT 'other', made_start_at TEXT, made_end_at TEXT, time_basis TEXT, integrity TEXT, probed_seq INTEGER) STRICT, WITHOUT ROWID
    ;
INSERT INTO "recording" VALUES('rec-a','device',2,'{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"}',NULL,NULL,NULL,'video','2026-07-06T08:59:56.000000+00:00','2026-07-06T09:00:00.000000+00:00','container','complete',9);
INSERT INTO "recording" VALUES('rec-b','device',3,'{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"}',NULL,NULL,NULL,'video','2026-07-06T08:59:56.000000+00:00','2026-07-06T09:00:00.000000+00:00','container','truncated',10);
INSERT INTO "recording" VALUES('rec-c','device',4,'{"alarm_at":"2026-07-08T08:00:00+00:00","basis":"official","citation":"\u00a7 15","due_at":"2026-07-08T09:00:00+00:00","profile":"shandong","rule":"working_days","start":"2026-07-06T09:00:00+00:00"}',NULL,NULL,NULL,'video','2026-07-06T08:59:56.000000+00:00','2026-07-06T09:00:00.000000+00:00','container','complete',11);
CREATE TABLE segment (
        activity_id TEXT NOT NULL REFERENCES activity,
        recording_id TEXT NOT NULL REFERENCES recording,
        PRIMARY KEY (activity_id, recording_id)
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "segment" VALUES('act','rec-a');
INSERT INTO "segment" VALUES('act','rec-b');
CREATE TABLE settled (
        asset_id TEXT PRIMARY KEY,
        size_bytes INTEGER NOT NULL,
        blake3 TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        holes TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    ;
CREATE INDEX event_by_subject ON event (subject, seq) WHERE subject <> '';
CREATE INDEX event_incident ON event (seq) WHERE kind = 'incident';
CREATE TRIGGER event_is_never_changed BEFORE UPDATE ON event
    BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER event_is_never_deleted BEFORE DELETE ON event
    BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END;
CREATE TRIGGER event_comes_next BEFORE INSERT ON event
    WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM event)
    BEGIN SELECT RAISE(ABORT, 'events follow each other without gap'); END;
CREATE INDEX docking_open ON docking (seq) WHERE closed_at IS NULL;
CREATE INDEX docking_by_device ON docking (device_id, seq);
CREATE INDEX asset_by_recording ON asset (recording_id);
CREATE INDEX asset_by_state ON asset (state, alarm_at);
CREATE INDEX asset_by_blake3 ON asset (blake3) WHERE blake3 IS NOT NULL;
CREATE INDEX asset_late ON asset (late_at)
    WHERE receipt IS NULL AND state <> 'matched' AND late_at IS NOT NULL
    ;
CREATE INDEX clip_pending ON clip (docking_id, mode, alarm_at, number) WHERE outcome = 'pending';
CREATE INDEX clip_by_likeness ON clip (likeness, seq) WHERE asset_id IS NOT NULL;
CREATE INDEX clip_by_asset ON clip (asset_id) WHERE asset_id IS NOT NULL;
CREATE INDEX settled_by_blake3 ON settled (blake3);
CREATE INDEX asset_same ON asset (same_as) WHERE same_as <> '';
CREATE INDEX about_by_asset ON about (asset_id);
CREATE INDEX asset_unsafe ON asset (alarm_at)
    WHERE receipt IS NULL AND state <> 'matched' AND role = 'original'
    ;
CREATE INDEX asset_unheld_document ON asset (asset_id) WHERE role <> 'original' AND state IN ('wanted', 'stuck');
CREATE INDEX activity_by_end ON activity (left_at, activity_id);
CREATE INDEX segment_by_recording ON segment (recording_id);
CREATE INDEX asset_to_probe ON asset (alarm_at, asset_id)
    WHERE probed = 0 AND role = 'original' AND state IN ('held', 'stored', 'matched')
    ;
CREATE INDEX asset_to_store ON asset
        (alarm_at, role <> 'original', device_id, asset_id, expected_bytes) WHERE state = 'held'
    ;
COMMIT;
